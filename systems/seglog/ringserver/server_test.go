package ringserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// served is a running server under test.
type served struct {
	network, address, dir string
	stats                 map[string]float64
	cancel                context.CancelFunc
	done                  chan error
}

func serveTest(t testing.TB, network string, change func(*Options)) *served {
	t.Helper()
	dir := t.TempDir()
	r := &served{network: network, dir: filepath.Join(dir, "log"), stats: map[string]float64{}, done: make(chan error, 1)}
	address := filepath.Join(dir, "s")
	if network != "unix" {
		address = "127.0.0.1:0"
	}
	ready := make(chan string, 1)
	o := Options{
		Network: network, Address: address, Dir: r.dir,
		Log:   seglog.Options{SegmentBytes: 8 << 20},
		Ready: func(a string) error { ready <- a; return nil },
		Stats: func(name string, v float64) { r.stats[name] = v },
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- Serve(ctx, o) }()
	select {
	case r.address = <-ready:
	case err := <-r.done:
		t.Fatalf("serve: %v", err)
	}
	t.Cleanup(func() { cancel() })
	return r
}

func (r *served) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Fatalf("serve: %v", err)
	}
}

type client struct {
	net.Conn
	in  []byte
	buf *bufio.Reader
}

func (r *served) dial(t testing.TB) *client {
	t.Helper()
	c, err := net.Dial(r.network, r.address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // a hang fails instead of blocking the suite
	t.Cleanup(func() { c.Close() })
	return &client{Conn: c, buf: bufio.NewReaderSize(c, 64<<10)}
}

func (c *client) send(t testing.TB, frames ...frame.Frame) {
	t.Helper()
	var wire []byte
	for _, f := range frames {
		wire = frame.Append(wire, f)
	}
	if _, err := c.Write(wire); err != nil {
		t.Fatal(err)
	}
}

func (c *client) next() (frame.Frame, error) {
	for {
		f, n, err := frame.Parse(c.in)
		if err != nil {
			return f, err
		}
		if n > 0 {
			f.Body = append([]byte(nil), f.Body...)
			c.in = c.in[n:]
			return f, nil
		}
		p := make([]byte, 64<<10)
		got, err := c.buf.Read(p)
		if err != nil {
			return f, err
		}
		c.in = append(c.in, p[:got]...)
	}
}

func (c *client) want(t testing.TB, kind frame.Kind, id uint64, status frame.Status) []byte {
	t.Helper()
	f, err := c.next()
	if err != nil || f.Kind != kind|frame.KindReply || f.ID != id || f.Status != status {
		t.Fatalf("answer %+v, error %v; want kind %d id %d status %v", f, err, kind, id, status)
	}
	return f.Body
}

func appendOf(tenant uint32, id uint64, body string) frame.Frame {
	return frame.Frame{Kind: frame.KindAppend, Tenant: tenant, ID: id, Body: []byte(body)}
}

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

var networks = []string{"unix", "tcp", "udp"}

func TestRequests(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			r := serveTest(t, network, nil)
			c := r.dial(t)
			c.send(t, appendOf(7, 1, "first"))
			if got := c.want(t, frame.KindAppend, 1, frame.StatusOK); binary.LittleEndian.Uint64(got) != 1 {
				t.Fatalf("sequence %x", got)
			}
			c.send(t, appendOf(7, 2, "second"))
			c.want(t, frame.KindAppend, 2, frame.StatusOK)
			c.send(t, frame.Frame{Kind: frame.KindRead, Tenant: 7, ID: 3, Body: u64(2)})
			if got := c.want(t, frame.KindRead, 3, frame.StatusOK); string(got) != "second" {
				t.Fatalf("read %q", got)
			}
			c.send(t, frame.Frame{Kind: frame.KindTail, Tenant: 7, ID: 4, Body: binary.LittleEndian.AppendUint32(u64(1), 10)})
			if got := c.want(t, frame.KindTail, 4, frame.StatusOK); string(got) != "\x05\x00\x00\x00first\x06\x00\x00\x00second" {
				t.Fatalf("tail %q", got)
			}
			c.send(t, frame.Frame{Kind: frame.KindPing, ID: 5, Body: []byte("echo")})
			if got := c.want(t, frame.KindPing, 5, frame.StatusOK); string(got) != "echo" {
				t.Fatalf("ping %q", got)
			}
			c.send(t, frame.Frame{Kind: frame.KindRead, Tenant: 7, ID: 6, Body: u64(3)})
			c.want(t, frame.KindRead, 6, frame.StatusUnknown)
			c.send(t, frame.Frame{Kind: 99, ID: 7})
			c.want(t, 99, 7, frame.StatusUnknown)
			c.send(t, frame.Frame{Kind: frame.KindRead, ID: 8, Body: []byte("short")})
			c.want(t, frame.KindRead, 8, frame.StatusMalformed)
			r.stop(t)
			if r.stats["records_total"] != 2 || r.stats["frames_unknown_total"] != 1 || r.stats["frames_malformed_total"] != 1 {
				t.Fatalf("stats %v", r.stats)
			}
		})
	}
}

// Everything that was acknowledged is in the log afterwards, whatever hostile
// clients did meanwhile.
func TestManyClientsAndHostileOnes(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			r := serveTest(t, network, func(o *Options) {
				o.Log.SegmentBytes, o.Log.BatchBytes, o.Log.RecordBytesMax = 1<<20, 64<<10, 8<<10
				o.InputBytesMax, o.OutputBytesMax = 16<<10, 8<<10
			})
			var wg sync.WaitGroup
			acked := make([][]string, 40)
			for worker := range uint32(8) {
				c := r.dial(t)
				wg.Go(func() { pipeline(t, c, worker, acked) })
				wg.Go(func() { hostile(r, uint64(worker)) })
			}
			wg.Wait()
			r.stop(t)
			checkLog(t, r.dir, acked)
			if r.stats["frames_malformed_total"] == 0 || r.stats["stalls_total"] == 0 {
				t.Errorf("nothing hostile or no back-pressure happened: %v", r.stats)
			}
		})
	}
}

// pipeline appends windows of records to tenants of its own.
func pipeline(t *testing.T, c *client, worker uint32, acked [][]string) {
	rng := rand.New(rand.NewPCG(uint64(worker), 3))
	for round := range 12 {
		want := map[uint64]string{}
		tenantOf := map[uint64]uint32{}
		var wire []byte
		for id := range uint64(60) {
			tenant := worker*5 + rng.Uint32N(5)
			body := fmt.Sprintf("%d.%d.%d.", worker, round, id) + string(make([]byte, rng.IntN(4000)))
			want[id], tenantOf[id] = body, tenant
			wire = frame.Append(wire, appendOf(tenant, id, body))
		}
		go func() { _, _ = c.Write(wire) }() // the server may stop reading before all is sent
		for range want {
			f, err := c.next()
			if err != nil || f.Status != frame.StatusOK {
				t.Errorf("worker %d: answer %+v, error %v", worker, f, err)
				return
			}
			tenant := tenantOf[f.ID]
			if seq := binary.LittleEndian.Uint64(f.Body); seq != uint64(len(acked[tenant])+1) {
				t.Errorf("tenant %d got sequence %d, want %d", tenant, seq, len(acked[tenant])+1)
				return
			}
			acked[tenant] = append(acked[tenant], want[f.ID])
		}
	}
}

// hostile sends damaged streams, leaves in the middle, or never reads.
func hostile(r *served, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	for range 15 {
		c, err := net.Dial(r.network, r.address)
		if err != nil {
			return
		}
		good := frame.Append(nil, frame.Frame{Kind: frame.KindPing, Body: make([]byte, rng.IntN(5000))})
		switch rng.IntN(5) {
		case 0:
			good[rng.IntN(len(good)-4)+4] ^= 0x55
		case 1:
			good = good[:rng.IntN(len(good))]
		case 2:
			binary.LittleEndian.PutUint32(good, 9<<20)
		case 3:
			for range 50 {
				good = append(good, good[:frame.HeaderLen]...)
			}
		case 4:
			good = make([]byte, 3000)
		}
		_, _ = c.Write(good)
		if rng.IntN(2) == 0 {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, _ = io.Copy(io.Discard, c)
		}
		c.Close()
	}
}

func checkLog(t *testing.T, dir string, acked [][]string) {
	t.Helper()
	next := make([]int, len(acked))
	err := seglog.Scan(dir, func(tenant uint32, seq uint64, payload []byte) error {
		i := next[tenant]
		if i >= len(acked[tenant]) || acked[tenant][i] != string(payload) || seq != uint64(i+1) {
			return fmt.Errorf("tenant %d sequence %d does not match what was acknowledged", tenant, seq)
		}
		next[tenant]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for tenant := range acked {
		if next[tenant] != len(acked[tenant]) {
			t.Errorf("tenant %d: %d records found, %d acknowledged", tenant, next[tenant], len(acked[tenant]))
		}
	}
}

func TestOversizedFrameIsAnsweredAndSkipped(t *testing.T) {
	r := serveTest(t, "unix", func(o *Options) { o.Log.RecordBytesMax = 8 << 10 })
	c := r.dial(t)
	c.send(t, appendOf(1, 1, string(make([]byte, 100<<10))), appendOf(1, 2, "fine"))
	c.want(t, frame.KindAppend, 1, frame.StatusTooLarge)
	c.want(t, frame.KindAppend, 2, frame.StatusOK)
	r.stop(t)
}

func TestMalformedFrameEndsItsConnectionOnly(t *testing.T) {
	r := serveTest(t, "tcp", nil)
	bad, good := r.dial(t), r.dial(t)
	wire := frame.Append(nil, appendOf(1, 1, "record"))
	wire[len(wire)-1] ^= 1
	if _, err := bad.Write(wire); err != nil {
		t.Fatal(err)
	}
	bad.want(t, 0, 0, frame.StatusMalformed)
	if _, err := bad.next(); !errors.Is(err, io.EOF) {
		t.Fatalf("connection goes on: %v", err)
	}
	good.send(t, appendOf(1, 2, "record"))
	good.want(t, frame.KindAppend, 2, frame.StatusOK)
	r.stop(t)
}

func TestHalfClosedClientGetsItsAnswers(t *testing.T) {
	r := serveTest(t, "tcp", nil)
	c := r.dial(t)
	for id := range uint64(100) {
		c.send(t, appendOf(1, id, "record"))
	}
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for id := range uint64(100) {
		c.want(t, frame.KindAppend, id, frame.StatusOK)
	}
	if _, err := c.next(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last answer: %v", err)
	}
	r.stop(t)
}

func TestClientThatNeverReadsIsClosed(t *testing.T) {
	r := serveTest(t, "unix", func(o *Options) { o.StuckTimeout = time.Millisecond; o.OutputBytesMax = 8 << 10 })
	c := r.dial(t)
	ping := frame.Append(nil, frame.Frame{Kind: frame.KindPing, Body: make([]byte, 4000)})
	for {
		if _, err := c.Write(ping); err != nil {
			break
		}
	}
	r.stop(t)
	if r.stats["clients_stuck_total"] != 1 {
		t.Fatalf("stats %v", r.stats)
	}
}

func TestAddressInUseAndLogInUse(t *testing.T) {
	r := serveTest(t, "tcp", nil)
	err := Serve(context.Background(), Options{Network: "tcp", Address: r.address, Dir: t.TempDir()})
	if err == nil {
		t.Fatal("two servers on one address")
	}
	err = Serve(context.Background(), Options{Network: "tcp", Address: "127.0.0.1:0", Dir: r.dir})
	if err == nil {
		t.Fatal("two servers on one log")
	}
	r.stop(t)
}
