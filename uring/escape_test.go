package uring

import (
	"testing"

	"golang.org/x/sys/unix"
)

// grow makes the goroutine's stack move.
func grow(depth int) int {
	var filler [512]byte
	if depth == 0 {
		return int(filler[0])
	}
	return grow(depth-1) + int(filler[depth%512])
}

// A buffer that would live on the stack must not be left behind when the stack
// moves between submission and completion.
func TestBuffersSurviveStackGrowth(t *testing.T) {
	r := newRing(t, Options{Entries: 4, SingleIssuer: true})
	a, b := socketpair(t, unix.SOCK_STREAM)
	done := make(chan string, 1)
	func() {
		var p [8]byte
		r.SQE().Recv(a, p[:])
		if _, err := r.Submit(); err != nil {
			t.Fatal(err)
		}
		grow(1000)
		if _, err := unix.Write(b, []byte("12345678")); err != nil {
			t.Fatal(err)
		}
		collect(t, r, 1)
		done <- string(p[:])
	}()
	if got := <-done; got != "12345678" {
		t.Fatalf("received %q", got)
	}
}
