//go:build wasip1

// Command goguest is the projection guest in Go (wasip1), to be measured beside the
// one in C: BenchmarkGoGuest of components/projection builds and runs it. It has
// the runtime's imports, so it is no guest for components/host.
package main

import (
	"unsafe"

	"github.com/nexuscore-labs/nexus/components/projection"
)

var (
	state projection.Native
	// input is where the host puts events and states.
	input  [projection.BatchMax * projection.EventLen]byte
	output []byte
)

// inputAt says where input is.
//
//go:wasmexport input
func inputAt() uint32 { return uint32(uintptr(unsafe.Pointer(&input))) }

// apply folds the events in the first length bytes of input.
//
//go:wasmexport apply
func apply(length uint32) uint64 {
	seq, err := state.Apply(input[:length])
	if err != nil {
		panic(err)
	}
	return seq
}

// restore goes on from the state in the first length bytes of input.
//
//go:wasmexport restore
func restore(length uint32) uint32 {
	if state.Restore(input[:length]) != nil {
		return 0
	}
	return 1
}

// encode returns the place of the encoding and, in the upper half, its length.
//
//go:wasmexport encode
func encode(version uint64, counts, top, recent uint32) uint64 {
	var err error
	output, err = state.Encode(output[:0], projection.View{Version: version, Counts: counts != 0, Top: top, Recent: recent})
	if err != nil {
		panic(err)
	}
	return uint64(len(output))<<32 | uint64(uintptr(unsafe.Pointer(unsafe.SliceData(output))))
}

func main() {}
