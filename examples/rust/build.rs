fn main() {
    cynic_codegen::register_schema("confab")
        .from_sdl_file("../../schema.graphql")
        .expect("the server's schema")
        .as_default()
        .expect("a folder for what is made of it");
}
