package graphserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/graphstore"
)

const (
	testTenants = 3
	testNodes   = 400
)

// start serves graphs of its own for each tenant and returns them, the address,
// and what ends the server and gives its counters.
func start(t *testing.T, network string, perRequest bool) ([]graph.Reference, string, func() map[string]float64) {
	t.Helper()
	var graphs []graph.Reference
	for tenant := range uint64(testTenants) {
		r, err := graphstore.Generate(graphstore.PostsShape(testNodes, tenant))
		if err != nil {
			t.Fatal(err)
		}
		graphs = append(graphs, r)
	}
	store := graphstore.NewTenants(testTenants, func(tenant uint32) (graph.Engine, error) {
		image, err := graph.Build(graphs[tenant].Edges, graphs[tenant].Documents)
		if err != nil {
			return nil, err
		}
		return graph.NewNative(image, graph.Options{Cursors: 4})
	})
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	stats := map[string]float64{}
	go func() {
		ended <- Serve(ctx, Options{
			Network: network, Address: address, Store: store, PerRequest: perRequest,
			Ready: func(address string) error { ready <- address; return nil },
			Stat:  func(name string, value float64) { stats[name] = value },
		})
	}()
	stop := sync.OnceValue(func() map[string]float64 {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		return stats
	})
	t.Cleanup(func() { stop() })
	return graphs, <-ready, stop
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// roundTrip sends one frame and reads its answer.
func roundTrip(c net.Conn, f frame.Frame) (frame.Frame, error) {
	if _, err := c.Write(frame.Append(nil, f)); err != nil {
		return frame.Frame{}, err
	}
	return receive(c)
}

func receive(c net.Conn) (frame.Frame, error) {
	if _, datagrams := c.(*net.UDPConn); datagrams {
		buf := make([]byte, 64<<10)
		n, err := c.Read(buf)
		if err != nil {
			return frame.Frame{}, err
		}
		return frame.ParseDatagram(buf[:n])
	}
	buf := make([]byte, frame.HeaderLen)
	if _, err := io.ReadFull(c, buf); err != nil {
		return frame.Frame{}, err
	}
	buf = append(buf, make([]byte, binary.LittleEndian.Uint32(buf)+4-frame.HeaderLen)...)
	if _, err := io.ReadFull(c, buf[frame.HeaderLen:]); err != nil {
		return frame.Frame{}, err
	}
	f, _, err := frame.Parse(buf)
	return f, err
}

// Clients at once read streams of chunks to their ends, over every transport.
func TestAnswersEqualTheReference(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "udp"} {
		for _, perRequest := range []bool{false, true} {
			graphs, address, stop := start(t, network, perRequest)
			var wg sync.WaitGroup
			for worker := range uint64(4) {
				c := dial(t, network, address)
				wg.Go(func() { readStreams(t, c, graphs, worker) })
			}
			wg.Wait()
			if stats := stop(); stats["queries_count"] < 4*60 || stats["refused_count"] != 0 {
				t.Errorf("%s: %v", network, stats)
			}
		}
	}
}

func readStreams(t *testing.T, c net.Conn, graphs []graph.Reference, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for request := range uint64(60) {
		tenant := rng.IntN(len(graphs))
		q := graph.Query{Root: uint32(rng.IntN(testNodes)), DepthMax: 3, Documents: true, ChunkLenMax: 1400, ResultsMax: 50}
		for done := false; !done; {
			got, err := roundTrip(c, frame.Frame{Kind: frame.KindQuery, Tenant: uint32(tenant), ID: request, Body: graph.AppendQuery(nil, q)})
			want, wantErr := graphs[tenant].Chunk(q, nil)
			if err != nil || wantErr != nil || got.Status != frame.StatusOK || got.ID != request || !bytes.Equal(got.Body, want) {
				t.Errorf("%+v: status %v, errors %v, %v", q, got.Status, err, wantErr)
				return
			}
			chunk, err := graph.ParseChunk(got.Body)
			if err != nil {
				t.Error(err)
				return
			}
			q.Position, done = chunk.Next, chunk.Done
		}
	}
}

func TestRefusals(t *testing.T) {
	good := graph.AppendQuery(nil, graph.Query{DepthMax: 1, ChunkLenMax: 1000, Documents: true})
	body := func(q graph.Query) []byte { return graph.AppendQuery(nil, q) }
	for _, network := range []string{"tcp", "udp"} {
		_, address, stop := start(t, network, false)
		c := dial(t, network, address)
		for _, test := range []struct {
			f    frame.Frame
			want frame.Status
		}{
			{frame.Frame{Kind: frame.KindPing, Body: []byte("hello")}, frame.StatusOK},
			{frame.Frame{Kind: frame.KindAppend, Body: good}, frame.StatusUnknown},
			{frame.Frame{Kind: frame.KindQuery, Tenant: testTenants, Body: good}, frame.StatusUnknown},
			{frame.Frame{Kind: frame.KindQuery, Body: good[:20]}, frame.StatusMalformed},
			{frame.Frame{Kind: frame.KindQuery, Body: append(good, 0)}, frame.StatusMalformed},
			{frame.Frame{Kind: frame.KindQuery, Body: body(graph.Query{DepthMax: 1, Root: testNodes})}, frame.StatusUnknown},
			{frame.Frame{Kind: frame.KindQuery, Body: body(graph.Query{DepthMax: 1, ChunkLenMax: 3, Documents: true})}, frame.StatusTooLarge},
			{frame.Frame{Kind: frame.KindQuery, Body: good}, frame.StatusOK},
		} {
			if got, err := roundTrip(c, test.f); err != nil || got.Status != test.want || got.Kind != test.f.Kind|frame.KindReply {
				t.Errorf("%s: %+v: status %v, error %v, want %v", network, test.f, got.Status, err, test.want)
			}
		}
		if network == "udp" {
			if got, err := roundTrip(c, frame.Frame{Kind: frame.KindQuery, Body: body(graph.Query{DepthMax: 1, ChunkLenMax: graph.ChunkLenMax})}); err != nil || got.Status != frame.StatusTooLarge {
				t.Errorf("a chunk larger than a datagram: status %v, error %v", got.Status, err)
			}
		}
		if stats := stop(); stats["refused_count"] < 6 {
			t.Errorf("%s: %v", network, stats)
		}
	}
}

// Garbage ends a connection with an answer, and is no datagram's business.
func TestGarbage(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		_, address, stop := start(t, network, false)
		for _, garbage := range [][]byte{bytes.Repeat([]byte{0xff}, 100), {200, 0, 0, 0, 9, 0, 0, 0}, {0, 0, 1, 0, 1}} {
			c := dial(t, network, address)
			if _, err := c.Write(garbage); err != nil {
				t.Fatal(err)
			}
			if network == "udp" {
				continue
			}
			f, err := receive(c)
			if err != nil || f.Status == frame.StatusOK {
				t.Errorf("%x: status %v, error %v", garbage, f.Status, err)
			}
			if _, err := receive(c); !errors.Is(err, io.EOF) && err == nil {
				t.Errorf("%x: the connection goes on", garbage)
			}
		}
		c := dial(t, network, address)
		if f, err := roundTrip(c, frame.Frame{Kind: frame.KindPing}); err != nil || f.Status != frame.StatusOK {
			t.Errorf("afterwards: status %v, error %v", f.Status, err)
		}
		if stats := stop(); stats["malformed_count"] != 3 {
			t.Errorf("%s: %v", network, stats)
		}
	}
}
