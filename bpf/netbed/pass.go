package netbed

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -go-package netbed object pass.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// PassThrough puts a program that passes every packet into the end's driver: what
// the other end sends by XDP_TX does not arrive without one. It goes with the bed.
func (e *End) PassThrough() error {
	spec, err := loadObject()
	if err != nil {
		return fmt.Errorf("read the program that passes all: %w", err)
	}
	program, err := ebpf.NewProgram(spec.Programs["pass"])
	if err != nil {
		return fmt.Errorf("load the program that passes all: %w", err)
	}
	defer program.Close() // the link holds it
	return e.Run(func() error {
		l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: e.Index, Flags: link.XDPDriverMode})
		if err != nil {
			return fmt.Errorf("put a program into the %s's driver: %w", e.side, err)
		}
		e.pass = l
		return nil
	})
}
