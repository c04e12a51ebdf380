package uring

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// udpPair gives a connected sender and the receiver it sends to.
func udpPair(t *testing.T, gro bool) (sender, receiver int) {
	t.Helper()
	var fds [2]int
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		fds[i] = fd
	}
	if err := unix.Bind(fds[1], &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fds[1])
	if err == nil {
		err = unix.Connect(fds[0], name)
	}
	if err != nil {
		t.Fatal(err)
	}
	if gro {
		if err := unix.SetsockoptInt(fds[1], unix.IPPROTO_UDP, unix.UDP_GRO, 1); err != nil {
			t.Skipf("UDP_GRO: %v", err)
		}
	}
	return fds[0], fds[1]
}

// batch makes datagrams of random lengths, mostly of a few kinds so that runs
// arise, each starting with its number.
func batch(random *rand.Rand, n int) (out []byte, ends []int) {
	kinds := []int{8, 40, 41, 1000, 1472}
	for i := range n {
		length := kinds[random.IntN(len(kinds))]
		if random.IntN(4) > 0 {
			length = kinds[1]
		}
		if random.IntN(10) == 0 {
			length = 2 + random.IntN(3000)
		}
		start := len(out)
		out = append(out, make([]byte, length)...)
		for k := range out[start:] {
			out[start+k] = byte(i + k)
		}
		ends = append(ends, len(out))
	}
	return out, ends
}

// Runs cover all datagrams once, in order, and each obeys the kernel's rule: all
// of one length but the last, which may be shorter.
func TestRun(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	runs, joined := 0, 0
	for range 2000 {
		const segmentLenMax = 1472
		_, ends := batch(random, 1+random.IntN(200))
		start := 0
		for len(ends) > 0 {
			count, segmentLen := Run(ends, start, segmentLenMax)
			if count < 1 || count > len(ends) || count > 64 || (segmentLen == 0) != (count == 1) {
				t.Fatalf("a run of %d of %d, segments of %d", count, len(ends), segmentLen)
			}
			at := start
			for i, end := range ends[:count] {
				n := end - at
				if count > 1 && (n > segmentLen || n < segmentLen && i < count-1 || segmentLen > segmentLenMax) {
					t.Fatalf("datagram %d of %d has %d bytes in a run of %d", i, count, n, segmentLen)
				}
				at = end
			}
			if count > 1 && at-start > 65535-48 {
				t.Fatalf("a run of %d bytes", at-start)
			}
			runs, joined = runs+1, joined+count
			start, ends = at, ends[count:]
		}
	}
	if joined < 2*runs {
		t.Errorf("%d datagrams in %d runs: nothing was joined", joined, runs)
	}
	if count, segmentLen := Run([]int{2000, 4000}, 0, 1472); count != 1 || segmentLen != 0 {
		t.Errorf("datagrams beyond the interface's packets were joined: %d, %d", count, segmentLen)
	}
}

// What goes out in runs comes in as the same datagrams, whether the receiver
// takes bunches or not.
func TestRunsArriveAsDatagrams(t *testing.T) {
	for _, gro := range []bool{false, true} {
		sender, receiver := udpPair(t, gro)
		r := newRing(t, Options{Entries: 256})
		header := NewRecvHeader(true)
		bufs, err := r.NewBufRing(1, 128, header.Overhead()+65536)
		if err != nil {
			t.Skipf("provided buffer rings: %v", err)
		}
		random := rand.New(rand.NewPCG(3, 4))
		r.SQE().RecvMsgMultishot(receiver, header, 1).Data(1)
		bunched := false
		for range 50 {
			out, ends := batch(random, 1+random.IntN(60))
			sendRuns(r, sender, out, ends)
			start := 0
			for start < len(out) {
				for _, e := range collect(t, r, 1) {
					if e.data != 1 {
						if e.res <= 0 {
							t.Fatalf("send: %d", e.res)
						}
						continue
					}
					bunch, ok := header.Parse(bufs.Bytes(uint16(e.flags>>16), int(e.res)))
					if !ok || bunch.Truncated || len(bunch.Name) != unix.SizeofSockaddrInet4 {
						t.Fatalf("received %+v, %v", bunch, ok)
					}
					bunched = bunched || bunch.SegmentLen > 0
					for p, ok := bunch.Next(); ok; p, ok = bunch.Next() {
						if !bytes.Equal(p, out[start:ends[0]]) {
							t.Fatalf("GRO %v: received %d bytes where a datagram of %d was due", gro, len(p), ends[0]-start)
						}
						start, ends = ends[0], ends[1:]
					}
					bufs.Recycle(uint16(e.flags >> 16))
					bufs.Publish()
					if e.flags&CQEMore == 0 {
						t.Fatalf("the receive ended: %+v", e)
					}
				}
			}
		}
		if bunched != gro {
			t.Errorf("GRO %v: bunches %v", gro, bunched)
		}
	}
}

func sendRuns(r *Ring, fd int, out []byte, ends []int) {
	for start := 0; len(ends) > 0; {
		count, segmentLen := Run(ends, start, 1472)
		r.SQE().SendRun(fd, &Message{}, out[start:ends[count-1]], segmentLen).Data(2)
		start, ends = ends[count-1], ends[count:]
	}
}

// A buffer shorter than a bunch gives the whole datagrams at its beginning.
func TestShortBufferCutsABunch(t *testing.T) {
	for _, room := range []int{9, 10, 15, 20, 29, 30} {
		sender, receiver := udpPair(t, true)
		r := newRing(t, Options{Entries: 16})
		header := NewRecvHeader(false)
		bufs, err := r.NewBufRing(1, 4, header.Overhead()+room)
		if err != nil {
			t.Skipf("provided buffer rings: %v", err)
		}
		out := []byte("aaaaaaaaaabbbbbbbbbbccccc")
		r.SQE().RecvMsgMultishot(receiver, header, 1).Data(1)
		r.SQE().SendRun(sender, &Message{}, out, 10).Data(2)
		for _, e := range collect(t, r, 2) {
			if e.data != 1 {
				continue
			}
			bunch, ok := header.Parse(bufs.Bytes(uint16(e.flags>>16), int(e.res)))
			if !ok || bunch.Truncated != (room < len(out)) {
				t.Fatalf("room for %d: %+v, %v", room, bunch, ok)
			}
			at := 0
			for p, ok := bunch.Next(); ok; p, ok = bunch.Next() {
				if !bytes.Equal(p, out[at:min(at+10, len(out))]) {
					t.Fatalf("room for %d: %q", room, p)
				}
				at += len(p)
			}
			want := room / 10 * 10
			if room >= len(out) {
				want = len(out)
			}
			if at != want {
				t.Errorf("room for %d: %d bytes of whole datagrams, want %d", room, at, want)
			}
		}
	}
	if _, ok := NewRecvHeader(true).Parse(make([]byte, 40)); ok {
		t.Error("less than a header was parsed")
	}
}
