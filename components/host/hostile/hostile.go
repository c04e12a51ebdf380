// Package hostile is a guest that misbehaves in every way that a guest can, for
// tests and labs: a host must stop it, count it, and let nobody else notice.
package hostile

import _ "embed"

//go:generate clang-19 --target=wasm32-unknown-unknown -std=c17 -O2 -mbulk-memory -nostdlib -ffreestanding -Wall -Wextra -Werror -Wno-infinite-recursion -Wl,--no-entry -Wl,--strip-all -Wl,--build-id=none -Wl,-z,stack-size=16384 -o hostile.wasm guest/hostile.c
//go:generate chmod 644 hostile.wasm

// Wasm is the module; guest/hostile.c says what its exports do.
//
//go:embed hostile.wasm
var Wasm []byte
