//! Compiles the .proto files to Rust, without protoc.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    let files = ["submission", "messages", "job"].map(|name| format!("postrider/v1/{name}.proto"));
    let descriptors = protox::compile(files, [root])?;
    #[allow(
        clippy::disallowed_methods,
        reason = "cargo speaks to build scripts through the environment"
    )]
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("postrider.bin"), descriptors.encode_to_vec())?;
    println!("cargo:rerun-if-changed={root}");
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
