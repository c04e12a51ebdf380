package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
const membarrierGlobal = 1

// Quiesce waits until every BPF program that was running when it was called has
// ended. Programs run inside RCU read-side sections, and membarrier(2)'s GLOBAL
// command is synchronize_rcu. A kernel with nohz_full CPUs refuses it (EINVAL);
// there a map in a map does the same.
func Quiesce() error {
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	switch {
	case errno == 0:
		return nil
	case errors.Is(errno, unix.EINVAL), errors.Is(errno, unix.ENOSYS):
		return quiesceByMap()
	}
	return fmt.Errorf("wait for running BPF programs: membarrier: %w", errno)
}

// quiesceByMap replaces the inner map of a map of maps: since kernel 5.0 (commit
// 1ae80cf31938) the system call returns only when no program can use the old one.
func quiesceByMap() error {
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	one, err := ebpf.NewMap(inner)
	if err != nil {
		return fmt.Errorf("wait for running BPF programs: make an inner map: %w", err)
	}
	defer one.Close()
	outer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner})
	if err != nil {
		return fmt.Errorf("wait for running BPF programs: make an outer map: %w", err)
	}
	defer outer.Close()
	if err := outer.Put(uint32(0), one); err != nil {
		return fmt.Errorf("wait for running BPF programs: replace the inner map: %w", err)
	}
	return nil
}
