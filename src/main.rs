//! The binary: everything is in the library, where tests reach it.
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: throng::plane::allocator::Allocator = throng::plane::allocator::Allocator;

fn main() -> ExitCode {
    throng::boot::cli::main()
}
