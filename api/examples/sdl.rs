//! Prints the schema: `cargo run -p api --example sdl > schema.graphql`.

fn main() {
    print!("{}", api::schema::sdl());
}
