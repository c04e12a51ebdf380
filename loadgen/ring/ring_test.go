package ring

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// recorder keeps what the ring tells it.
type recorder struct {
	connected int
	got       map[int][]byte
	writable  int
	closed    map[int]error
}

func (r *recorder) Connected(int)               { r.connected++ }
func (r *recorder) Received(conn int, p []byte) { r.got[conn] = append(r.got[conn], p...) }
func (r *recorder) Writable(int)                { r.writable++ }
func (r *recorder) Closed(conn int, err error)  { r.closed[conn] = err }

// echo serves one network until the test ends.
func echo(t *testing.T, network string) Address {
	t.Helper()
	var text string
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		text = c.LocalAddr().String()
		go func() {
			p := make([]byte, 64<<10)
			for {
				n, from, err := c.ReadFrom(p)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(p[:n], from)
			}
		}()
	} else {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = t.TempDir() + "/s"
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		text = l.Addr().String()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
			}
		}()
	}
	a, err := Resolve(network, text, netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// turn works until the condition holds, bounded by five seconds.
func turn(t *testing.T, s *Set, what string, until func() bool) {
	t.Helper()
	deadline := Now() + int64(5*time.Second)
	for !until() {
		if _, err := s.Wait(Now() + 20e6); err != nil {
			t.Fatal(err)
		}
		if err := s.Dispatch(); err != nil {
			t.Fatal(err)
		}
		if Now() > deadline {
			t.Fatalf("waited five seconds for: %s", what)
		}
	}
}

func newSet(t *testing.T, o Options) (*Set, *recorder) {
	t.Helper()
	runtime.LockOSThread()
	r := &recorder{got: map[int][]byte{}, closed: map[int]error{}}
	s, err := New(o, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
	for i := range o.Conns {
		s.Connect(i)
	}
	turn(t, s, "connections", func() bool { return r.connected == o.Conns })
	return s, r
}

// With and without each kernel feature, bytes come back as they were sent:
// small ones, ones that outgrow a buffer, and many in flight.
func TestEcho(t *testing.T) {
	for name, o := range map[string]Options{
		"everything":    {},
		"plain receive": {PlainRecv: true},
		"heap send":     {HeapSend: true},
		"neither":       {PlainRecv: true, HeapSend: true},
		"small buffers": {OutLen: 64, InLen: 1024},
	} {
		for _, network := range []string{"tcp", "unix", "udp"} {
			t.Run(name+"/"+network, func(t *testing.T) {
				o.Conns, o.Target = 5, echo(t, network)
				s, r := newSet(t, o)
				sizes := []int{1, 100, 5000, 400_000}
				if network == "udp" {
					sizes = []int{1, 60, 120}
				}
				for _, size := range sizes {
					echoSize(t, s, r, size)
				}
				if len(r.closed) > 0 {
					t.Errorf("closed: %v", r.closed)
				}
			})
		}
	}
}

func echoSize(t *testing.T, s *Set, r *recorder, size int) {
	t.Helper()
	clear(r.got)
	want := make([][]byte, len(s.conns))
	for i := range want {
		for part := range 3 {
			message := bytes.Repeat([]byte{byte('a' + part), byte(i)}, (size+1)/2)[:size]
			want[i] = append(want[i], message...)
			s.SetOut(i, append(s.Out(i), message...))
			s.Flush(i) // the second and third wait for the first
		}
	}
	turn(t, s, "echoes", func() bool {
		done := true
		for i := range want {
			if s.Buffered(i) > 0 {
				s.Flush(i)
			}
			done = done && len(r.got[i]) >= len(want[i])
		}
		return done
	})
	for i := range want {
		if !bytes.Equal(r.got[i], want[i]) {
			t.Fatalf("connection %d: %d bytes came back unlike the %d sent", i, len(r.got[i]), len(want[i]))
		}
	}
}

// More data than all receive buffers together hold: the receive ends for want
// of a buffer and starts again.
func TestOutOfBuffers(t *testing.T) {
	s, r := newSet(t, Options{Conns: 8, Target: echo(t, "tcp"), InLen: 32})
	echoSize(t, s, r, 30_000)
	if len(r.closed) > 0 {
		t.Errorf("closed: %v", r.closed)
	}
}

// A connection that is lost says so once, and its place can be used again;
// one that this side drops says nothing.
func TestLossAndReconnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	a, err := Resolve("tcp", l.Addr().String(), netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	s, r := newSet(t, Options{Conns: 1, Target: a})
	for round := range 3 {
		c := <-accepted
		if round == 1 {
			s.Drop(0)
		} else {
			_ = c.Close()
			turn(t, s, "the loss", func() bool { return r.closed[0] != nil })
			if !errors.Is(r.closed[0], ErrClosedByPeer) {
				t.Errorf("closed with %v", r.closed[0])
			}
		}
		if s.Flush(0) {
			t.Error("a lost connection sends")
		}
		_ = c.Close()
		clear(r.closed)
		s.Connect(0)
		turn(t, s, "the new connection", func() bool { return r.connected == round+2 })
	}
	if len(r.closed) > 0 {
		t.Errorf("dropping was reported: %v", r.closed)
	}
	_ = l.Close()
	for len(accepted) > 0 {
		_ = (<-accepted).Close()
	}
	turn(t, s, "the loss", func() bool { return r.closed[0] != nil })
	clear(r.closed)
	s.Connect(0)
	turn(t, s, "the refusal", func() bool { return r.closed[0] != nil })
}

func TestBadSets(t *testing.T) {
	for _, n := range []int{0, -1, ConnsMax + 1} {
		if s, err := New(Options{Conns: n}, &recorder{}); err == nil {
			_ = s.Close()
			t.Errorf("%d connections were accepted", n)
		}
	}
}
