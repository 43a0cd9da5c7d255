//! What is served beside the API: the schema, the explorer.

use reqwest::{Method, header};

use crate::test_server::{TestServer, answer};

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_served_with_a_tag() {
    let server = TestServer::start().await;
    let whole = answer(server.request(Method::GET, "/schema.graphql")).await;
    assert_eq!((whole.status, whole.text.as_str()), (200, api::schema::sdl().as_str()));
    let tag = whole.header("etag");
    assert!(tag.starts_with('"') && tag.len() > 8, "{tag}");
    let known = server.request(Method::GET, "/schema.graphql").header(header::IF_NONE_MATCH, tag);
    let known = answer(known).await;
    assert_eq!((known.status, known.text.as_str(), known.header("etag")), (304, "", tag));
    let head = answer(server.request(Method::HEAD, "/schema.graphql")).await;
    assert_eq!((head.status, head.header("etag")), (200, tag));
    let posted = answer(server.request(Method::POST, "/schema.graphql")).await;
    assert_eq!((posted.status, posted.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_explorer_loads_nothing_from_elsewhere() {
    let server = TestServer::start().await;
    let page = answer(server.request(Method::GET, "/")).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'self'") && !policy.contains("http"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    for path in ["/explorer/../Cargo.toml", "/explorer/.gitkeep", "/explorer/%2e%2e/x", "/explorer/", "/none"]
    {
        assert_eq!(answer(server.request(Method::GET, path)).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_a_hash_in_their_name_are_kept_for_ever_and_the_page_is_asked_for_again() {
    let server = TestServer::start().await;
    let page = answer(server.request(Method::GET, "/")).await;
    assert_eq!(page.header("cache-control"), "no-cache");
    let (_, after) = page.text.split_once("/explorer/assets/").expect("a script");
    let name = after.split('"').next().expect("a name");
    let script = answer(server.request(Method::GET, &format!("/explorer/assets/{name}"))).await;
    let kept = (script.status, script.header("cache-control"));
    assert_eq!(kept, (200, "public, max-age=31536000, immutable"));
}
