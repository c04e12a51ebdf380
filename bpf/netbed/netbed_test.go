package netbed

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

var names atomic.Uint64

func newBed(t *testing.T, options Options) *Bed {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	options.Name = fmt.Sprintf("nexus-%d-%d", os.Getpid(), names.Add(1))
	b, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// listen opens a socket on the server's end that echoes datagrams.
func listen(t *testing.T, b *Bed, address string) {
	t.Helper()
	var conn net.PacketConn
	err := b.Server.Run(func() (err error) {
		conn, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := conn.WriteTo(buf[:n], from); err != nil {
				return
			}
		}
	}()
}

func ask(t *testing.T, b *Bed, address string, times, length int) {
	t.Helper()
	err := b.Client.Run(func() error {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		sent, got := make([]byte, length), make([]byte, length+1)
		for range times {
			if _, err := conn.Write(sent); err != nil {
				return err
			}
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				return err
			}
			n, err := conn.Read(got)
			if err != nil {
				return err
			}
			if n != length {
				return errors.New("another length came back")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
}

func TestBothFamiliesAndSizes(t *testing.T) {
	b := newBed(t, Options{})
	for _, address := range []string{"10.77.0.1:7010", "[fd77::1]:7010"} {
		listen(t, b, address)
		for _, length := range []int{1, 1400, 4200, 9000} {
			ask(t, b, address, 3, length)
		}
	}
}

func TestBedsDoNotSeeEachOther(t *testing.T) {
	a, b := newBed(t, Options{}), newBed(t, Options{})
	listen(t, a, "10.77.0.1:7010")
	ask(t, a, "10.77.0.1:7010", 1, 8)
	err := b.Client.Run(func() error {
		conn, err := net.Dial("udp", "10.77.0.1:7010")
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, err = conn.Read(make([]byte, 8))
		return err
	})
	if !errors.Is(err, unix.ECONNREFUSED) { // the other bed's own server end says so
		t.Errorf("the other bed's server was reached, or nothing was: %v", err)
	}
}

// The packets' work is the thread's, on the CPU that it was pinned to.
func TestThreads(t *testing.T) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !set.IsSet(cpu) {
		cpu++
	}
	b := newBed(t, Options{ServerCPUs: []int{cpu}, ClientCPUs: []int{cpu}})
	if len(b.Notes) > 0 {
		t.Skipf("%v", b.Notes)
	}
	listen(t, b, "10.77.0.1:7010")
	ask(t, b, "10.77.0.1:7010", 1, 8)
	before, err := b.Server.CPUNs()
	if err != nil {
		t.Fatal(err)
	}
	ask(t, b, "10.77.0.1:7010", 200, 8)
	after, err := b.Server.CPUNs()
	if err != nil {
		t.Fatal(err)
	}
	if after <= before {
		t.Errorf("200 datagrams cost the thread nothing: %d ns before, %d after", before, after)
	}
	var pinned unix.CPUSet
	if err := unix.SchedGetaffinity(b.Server.Thread, &pinned); err != nil || pinned.Count() != 1 || !pinned.IsSet(cpu) {
		t.Errorf("the thread runs on %d CPUs, error %v", pinned.Count(), err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	b := newBed(t, Options{})
	paths := []string{b.Server.Netns, b.Client.Netns}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range paths {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", name)
		}
	}
	if err := b.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

// With a program at an end, all arrives as before.
func TestPassThrough(t *testing.T) {
	b := newBed(t, Options{})
	for _, end := range b.ends() {
		if err := end.PassThrough(); err != nil {
			t.Fatal(err)
		}
	}
	bpftest.Record(t, attach.Program{Name: "pass", Target: b.Client.Interface, Rung: "xdp.frags"})
	listen(t, b, "10.77.0.1:7010")
	for _, length := range []int{1, 1400, 4200} {
		ask(t, b, "10.77.0.1:7010", 3, length)
	}
}
