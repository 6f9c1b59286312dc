//! Compiles the protobuf contract, without `protoc`. Does nothing unless the feature `grpc` is on.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "grpc")]
    grpc::generate()?;
    Ok(())
}

#[cfg(feature = "grpc")]
mod grpc {
    use std::{env, error::Error, fs, path::PathBuf};

    const PROTO: &str = "ferry/v1/relay.proto";

    pub(crate) fn generate() -> Result<(), Box<dyn Error>> {
        println!("cargo:rerun-if-changed=proto");
        let mut compiler = protox::Compiler::new(["proto"])?;
        compiler
            .include_imports(true)
            .include_source_info(true)
            .open_file(PROTO)?;
        // What the reflection service answers from.
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
        fs::write(
            out.join("descriptors.binpb"),
            compiler.encode_file_descriptor_set(),
        )?;
        tonic_prost_build::configure()
            // Ours keeps a trail of a million empty hops from taking a thousand times its size.
            .codec_path("crate::proto::RelayCodec")
            .compile_fds(compiler.file_descriptor_set())?;
        Ok(())
    }
}
