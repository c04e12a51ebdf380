package uring

import (
	"bytes"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func socketpair(t testing.TB, kind int) (int, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]); _ = unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func TestLinkTimeoutPollAndCancel(t *testing.T) {
	variants(t, func(t *testing.T, o Options) {
		r := newRing(t, o)
		a, b := socketpair(t, unix.SOCK_STREAM)
		p := make([]byte, 8)
		ts := Timespec(2 * time.Millisecond)
		r.SQE().Recv(a, p).With(Link).Data(1)
		r.SQE().LinkTimeout(&ts).Data(2)
		want := map[uint64]int32{1: -int32(unix.ECANCELED), 2: -int32(unix.ETIME)}
		for _, e := range collect(t, r, 2) {
			wantRes(t, e, want[e.data])
		}
		r.SQE().Recv(a, p).Data(3)
		r.SQE().CancelFd(a, false).Data(4)
		want = map[uint64]int32{3: -int32(unix.ECANCELED), 4: 1}
		for _, e := range collect(t, r, 2) {
			wantRes(t, e, want[e.data])
		}
		r.SQE().Poll(a, unix.POLLIN).Data(5)
		if _, err := unix.Write(b, []byte("z")); err != nil {
			t.Fatal(err)
		}
		if e := result(t, r, 5); e.res&unix.POLLIN == 0 {
			t.Fatalf("poll result %#x", e.res)
		}
		r.SQE().Shutdown(a, unix.SHUT_RDWR).Data(6)
		wantRes(t, result(t, r, 6), 0)
	})
}

func TestConnectAcceptSendRecv(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	unixAddr, err := UnixSockaddr(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, addr := range map[string]*Sockaddr{"tcp": nil, "unix": unixAddr} {
		t.Run(name, func(t *testing.T) {
			r := newRing(t, Options{Entries: 8, SingleIssuer: true})
			listener, to := listen(t, path, addr)
			r.SQE().AcceptMultishot(listener).Data(1)
			for range 2 {
				client, err := unix.Socket(to.Family(), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				r.SQE().Connect(client, to).Data(2)
				server := 0
				for _, e := range collect(t, r, 2) {
					if e.data == 1 && e.res > 0 && e.flags&CQEMore != 0 {
						server = int(e.res)
						continue
					}
					wantRes(t, e, 0)
				}
				p := make([]byte, 8)
				r.SQE().Recv(client, p).PollFirst().Data(3)
				r.SQE().Send(server, []byte("answer"), unix.MSG_NOSIGNAL).Data(4)
				for _, e := range collect(t, r, 2) {
					wantRes(t, e, 6)
				}
				if string(p[:6]) != "answer" {
					t.Fatalf("received %q", p)
				}
				r.SQE().Close(server).Data(5)
				wantRes(t, result(t, r, 5), 0)
				r.SQE().Recv(client, p).Data(6)
				wantRes(t, result(t, r, 6), 0)
				_ = unix.Close(client)
			}
			r.SQE().Cancel(1, true).Data(7)
			collect(t, r, 2)
		})
	}
	if _, err := UnixSockaddr(string(bytes.Repeat([]byte("x"), 108))); err == nil {
		t.Error("a path of 108 bytes was accepted")
	}
}

func listen(t *testing.T, path string, unixAddr *Sockaddr) (int, *Sockaddr) {
	t.Helper()
	family, bind := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if unixAddr != nil {
		family, bind = unix.AF_UNIX, &unix.SockaddrUnix{Name: path}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, bind), unix.Listen(fd, 8)); err != nil {
		t.Fatal(err)
	}
	if unixAddr != nil {
		return fd, unixAddr
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in := name.(*unix.SockaddrInet4)
	return fd, InetSockaddr(netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)))
}

func TestDatagrams(t *testing.T) {
	r := newRing(t, Options{Entries: 8, SingleIssuer: true})
	a, b := socketpair(t, unix.SOCK_DGRAM)
	out, in := []byte("datagram"), make([]byte, 16)
	send := &unix.Msghdr{Iov: &unix.Iovec{Base: &out[0], Len: 8}, Iovlen: 1}
	recv := &unix.Msghdr{Iov: &unix.Iovec{Base: &in[0], Len: 16}, Iovlen: 1}
	r.SQE().RecvMsg(b, recv, 0).Data(1)
	r.SQE().SendMsg(a, send, 0).Data(2)
	for _, e := range collect(t, r, 2) {
		wantRes(t, e, 8)
	}
	if string(in[:8]) != "datagram" {
		t.Fatalf("received %q", in)
	}
}

func TestMultishotRecvWithBuffers(t *testing.T) {
	variants(t, func(t *testing.T, o Options) {
		r := newRing(t, o)
		a, b := socketpair(t, unix.SOCK_STREAM)
		ring, err := r.NewBufRing(7, 2, 8)
		if err != nil {
			t.Skipf("provided buffer rings: %v", err)
		}
		r.SQE().RecvMultishot(a, ring.Group).Data(1)
		if _, err := r.Submit(); err != nil {
			t.Fatal(err)
		}
		for i := range 10 { // five times round the ring
			message := []byte{byte(i), 2, 3}
			if _, err := unix.Write(b, message); err != nil {
				t.Fatal(err)
			}
			e := result(t, r, 1)
			if e.res != 3 || e.flags&CQEMore == 0 || e.flags&CQEBuffer == 0 {
				t.Fatalf("message %d: %+v", i, e)
			}
			id := uint16(e.flags >> 16)
			if !bytes.Equal(ring.Bytes(id, 3), message) {
				t.Fatalf("message %d: %v", i, ring.Bytes(id, 3))
			}
			ring.Recycle(id)
			ring.Publish()
		}
		// With no buffer left the multishot ends with ENOBUFS and no More.
		if _, err := unix.Write(b, make([]byte, 17)); err != nil {
			t.Fatal(err)
		}
		var last event
		for _, e := range collect(t, r, 3) {
			last = e
		}
		if last.res != -int32(unix.ENOBUFS) || last.flags&CQEMore != 0 {
			t.Fatalf("after the buffers ran out: %+v", last)
		}
	})
	r := newRing(t, Options{Entries: 4})
	for _, bad := range [][2]int{{0, 8}, {3, 8}, {65536, 8}, {2, 0}} {
		if _, err := r.NewBufRing(1, bad[0], bad[1]); err == nil {
			t.Errorf("%d buffers of %d bytes were accepted", bad[0], bad[1])
		}
	}
}

// The largest ring shows giouring's 16-bit overflow of index times 16.
func TestLargeBufRing(t *testing.T) {
	r := newRing(t, Options{Entries: 8})
	a, b := socketpair(t, unix.SOCK_STREAM)
	ring, err := r.NewBufRing(1, 8192, 16)
	if err != nil {
		t.Skipf("provided buffer rings: %v", err)
	}
	for i := range 8192 {
		if _, err := unix.Write(b, []byte{byte(i), byte(i >> 8)}); err != nil {
			t.Fatal(err)
		}
		r.SQE().RecvSelect(a, 1).Data(1)
		e := result(t, r, 1)
		wantRes(t, e, 2)
		if got := ring.Bytes(uint16(e.flags>>16), 2); int(got[0])|int(got[1])<<8 != i {
			t.Fatalf("message %d arrived as %v in buffer %d", i, got, e.flags>>16)
		}
	}
}
