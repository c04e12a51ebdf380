package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/kvm.h.
const (
	kvmGetAPIVersion    = 0xae00
	kvmCreateVM         = 0xae01
	kvmGetVCPUMmapSize  = 0xae04
	kvmCreateVCPU       = 0xae41
	kvmSetUserMemory    = 0x4020ae46
	kvmRun              = 0xae80
	kvmGetSpecialRegs   = 0x8138ae83
	kvmSetSpecialRegs   = 0x4138ae84
	kvmSetRegs          = 0x4090ae82
	kvmAPIVersion       = 12
	kvmExitHalt         = 5
	kvmExitReasonOffset = 8 // of struct kvm_run
)

// kvmRegs is struct kvm_regs of x86.
type kvmRegs struct {
	_     [16]uint64 // rax to r15
	rip   uint64
	flags uint64
}

// kvmSpecialRegs is struct kvm_sregs of x86; only the code segment matters here.
type kvmSpecialRegs struct {
	codeBase uint64
	_        uint32
	selector uint16
	_        [298]byte // the rest of its 312
}

// kvmTimeout is how long one instruction may take.
const kvmTimeout = 3 * time.Second

// kvmBootMax is how long a kernel may take to come up under KVM; one that takes
// longer never does.
const kvmBootMax = 20 * time.Second

// Accel is what a machine with these options runs under, and why not KVM. Where
// the probe runs a guest, a kernel is booted once to see whether it does too;
// the outcome is remembered until this host restarts.
func Accel(ctx context.Context, options Options) (accel, noKVM string) {
	if options.Accel != "" {
		return options.Accel, ""
	}
	if err := ProbeKVM(); err != nil {
		return AccelTCG, err.Error()
	}
	file, boot, err := kvmMemory()
	if err != nil {
		return AccelTCG, err.Error()
	}
	if text, err := os.ReadFile(file); err == nil {
		switch outcome, same := strings.CutPrefix(string(text), boot+" "); {
		case same && outcome == kvmBoots:
			return AccelKVM, ""
		case same:
			return AccelTCG, outcome
		}
	}
	outcome := kvmBoots
	trial := Options{Kernel: options.Kernel, Binary: options.Binary, MemoryMiB: options.MemoryMiB, CPUs: 1, Boot: kvmBootMax, Timeout: kvmBootMax}
	if _, err := runOnce(ctx, trial, AccelKVM); err != nil {
		outcome = "the device runs an instruction and boots no kernel"
	}
	if ctx.Err() == nil {
		_ = os.WriteFile(file, []byte(boot+" "+outcome), 0o644) // else the next machine finds out again
	}
	if outcome != kvmBoots {
		return AccelTCG, outcome
	}
	return AccelKVM, ""
}

// kvmBoots is what is remembered of a host on which a kernel came up.
const kvmBoots = "boots"

func kvmMemory() (file, boot string, err error) {
	dir, err := cacheDir()
	if err != nil {
		return "", "", err
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return filepath.Join(dir, "kvm"), strings.TrimSpace(string(id)), err
}

// ProbeKVM runs one instruction in a guest: nil if it did. That the device can
// be opened says little: under some hypervisors creating a machine works and
// running it does not.
func ProbeKVM() error {
	if runtime.GOARCH != "amd64" {
		return errors.New("probed on amd64 only")
	}
	done := make(chan error, 1)
	go func() { done <- runHalt() }()
	select {
	case err := <-done:
		return err
	case <-time.After(kvmTimeout):
		return fmt.Errorf("a guest's first instruction did not end within %v", kvmTimeout)
	}
}

func runHalt() error {
	device, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/kvm: %w", err)
	}
	defer unix.Close(device)
	if version, err := ioctl(device, kvmGetAPIVersion, 0); err != nil || version != kvmAPIVersion {
		return fmt.Errorf("KVM API version %d: %w", version, err)
	}
	vm, err := ioctl(device, kvmCreateVM, 0)
	if err != nil {
		return fmt.Errorf("create a virtual machine: %w", err)
	}
	defer unix.Close(vm)
	memory, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map memory for the machine: %w", err)
	}
	defer unix.Munmap(memory)
	const halt = 0xf4 // hlt
	memory[0] = halt
	region := struct {
		slot, flags       uint32
		guest, size, host uint64
	}{size: uint64(len(memory)), host: uint64(uintptr(unsafe.Pointer(&memory[0])))}
	if _, err := ioctl(vm, kvmSetUserMemory, uintptr(unsafe.Pointer(&region))); err != nil {
		return fmt.Errorf("give the machine memory: %w", err)
	}
	return runProcessor(device, vm)
}

func runProcessor(device, vm int) error {
	processor, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return fmt.Errorf("create a processor: %w", err)
	}
	defer unix.Close(processor)
	size, err := ioctl(device, kvmGetVCPUMmapSize, 0)
	if err != nil {
		return fmt.Errorf("size of the processor's state: %w", err)
	}
	state, err := unix.Mmap(processor, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the processor's state: %w", err)
	}
	defer unix.Munmap(state)
	var special kvmSpecialRegs
	if _, err := ioctl(processor, kvmGetSpecialRegs, uintptr(unsafe.Pointer(&special))); err != nil {
		return fmt.Errorf("read the segment registers: %w", err)
	}
	special.codeBase, special.selector = 0, 0
	if _, err := ioctl(processor, kvmSetSpecialRegs, uintptr(unsafe.Pointer(&special))); err != nil {
		return fmt.Errorf("set the segment registers: %w", err)
	}
	registers := kvmRegs{flags: 2} // bit 1 is always set
	if _, err := ioctl(processor, kvmSetRegs, uintptr(unsafe.Pointer(&registers))); err != nil {
		return fmt.Errorf("set the registers: %w", err)
	}
	if _, err := ioctl(processor, kvmRun, 0); err != nil {
		return fmt.Errorf("run the machine: %w", err)
	}
	if reason := *(*uint32)(unsafe.Pointer(&state[kvmExitReasonOffset])); reason != kvmExitHalt {
		return fmt.Errorf("run the machine: it stopped for reason %d instead of its halt", reason)
	}
	return nil
}

func ioctl(fd int, request, arg uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), nil
	}
}
