//! Makes Rust of the wire's description, without a protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "proto/swarm.proto";
    println!("cargo::rerun-if-changed={file}");
    let described = protox::compile([file], ["proto"])?;
    tonic_prost_build::configure().compile_fds(described)?;
    Ok(())
}
