package netbed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// threadPriority puts the kernel's threads before everything else on their CPU, as
// interrupts are; it is above the load generator's.
const threadPriority = 50

// threadWait bounds the wait for the kernel to start a thread.
const threadWait = time.Second

// thread has the end's packets worked on by a kernel thread on the given CPUs. The
// interface has one NAPI instance, as it has one queue.
func (e *End) thread(cpus []int) error {
	if err := e.setThreaded(); err != nil {
		return err
	}
	before := time.Now()
	for {
		pid, err := e.findThread()
		if err != nil {
			return err
		}
		if pid > 0 {
			e.Thread = pid
			return pin(pid, cpus)
		}
		if time.Since(before) > threadWait {
			return errors.New("threaded NAPI is on and its thread did not appear")
		}
		time.Sleep(time.Millisecond)
	}
}

// setThreaded writes to the interface's folder in sysfs, which shows the interfaces
// of the namespace that it was mounted in: so it is mounted again.
func (e *End) setThreaded() error {
	dir, err := os.MkdirTemp("", "nexus-sysfs-*")
	if err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	defer os.Remove(dir)
	return e.Run(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("keep mounts private: %w", err)
		}
		if err := unix.Mount("sysfs", dir, "sysfs", 0, ""); err != nil {
			return fmt.Errorf("mount sysfs: %w", err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH) // its namespace ends with the thread anyway
		path := filepath.Join(dir, "class/net", e.Interface, "threaded")
		if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("turn threaded NAPI on: %w", err)
		}
		return nil
	})
}

// findThread finds the kernel thread napi/<interface>-<id>; 0: not there.
func (e *End) findThread() (int, error) {
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, fmt.Errorf("list the kernel's threads: %w", err)
	}
	for _, path := range comms {
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(text), "napi/"+e.Interface+"-") {
			continue // gone, or another's
		}
		return strconv.Atoi(filepath.Base(filepath.Dir(path)))
	}
	return 0, nil
}

func pin(pid int, cpus []int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(pid, &set); err != nil {
		return fmt.Errorf("pin the thread of packets to CPUs %v: %w", cpus, err)
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: threadPriority}
	if err := unix.SchedSetAttr(pid, &attr, 0); err != nil {
		return fmt.Errorf("raise the thread of packets: %w", err)
	}
	return nil
}

// CPUNs is the CPU time that the end's thread has used, from schedstat.
func (e *End) CPUNs() (int64, error) {
	if e.Thread == 0 {
		return 0, errors.New("the end has no thread of its own")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", e.Thread))
	if err != nil {
		return 0, fmt.Errorf("read the clock of the thread of packets: %w", err)
	}
	first, _, _ := strings.Cut(string(text), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the clock of the thread of packets: %w", err)
	}
	return ns, nil
}
