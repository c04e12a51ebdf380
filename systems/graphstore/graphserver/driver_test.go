package graphserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/netbed"
	"github.com/nexuscore-labs/nexus/bpf/tenantroute"
	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/graphstore"
)

var beds atomic.Uint64

// bedServer is a server behind the driver of a bed's interface.
func bedServer(t *testing.T, way string, graphs []graph.Reference) (*netbed.Bed, netip.AddrPort, func() map[string]float64) {
	t.Helper()
	bed, err := netbed.New(netbed.Options{Name: fmt.Sprintf("nexus-%d-g%d", os.Getpid(), beds.Add(1))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	})
	store := graphstore.NewTenants(len(graphs), func(tenant uint32) (graph.Engine, error) {
		image, err := graph.Build(graphs[tenant].Edges, graphs[tenant].Documents)
		if err != nil {
			return nil, err
		}
		return graph.NewNative(image, graph.Options{Cursors: 4})
	})
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	stats := map[string]float64{}
	go func() {
		ended <- bed.Server.Run(func() error {
			return Serve(ctx, Options{
				Network: "udp", Address: netbed.ServerIPv4.String() + ":0", Store: store,
				Driver: &Driver{Device: bed.Server.Interface, Way: way, Tenants: len(graphs)},
				Ready:  func(address string) error { ready <- address; return nil },
				Stat:   func(name string, value float64) { stats[name] = value },
			})
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
	select {
	case address := <-ready:
		return bed, netip.MustParseAddrPort(address), stop
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	panic("unreachable")
}

// Queries that the driver hands over are answered as any others; what it passes on
// is answered from the socket.
func TestDriver(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	var graphs []graph.Reference
	for tenant := range uint64(testTenants) {
		r, err := graphstore.Generate(graphstore.PostsShape(testNodes, tenant))
		if err != nil {
			t.Fatal(err)
		}
		graphs = append(graphs, r)
	}
	for _, way := range []string{tenantroute.WaySocket, tenantroute.WayRing, tenantroute.WayPerf} {
		t.Run(way, func(t *testing.T) {
			bed, address, stop := bedServer(t, way, graphs)
			var clients []net.Conn
			err := bed.Client.Run(func() error {
				for range 3 {
					c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(address))
					if err != nil {
						return err
					}
					clients = append(clients, c)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for i, c := range clients {
				if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { readStreams(t, c, graphs, uint64(i)) })
			}
			wg.Wait()
			hostileRequests(t, clients[0], graphs[0])
			for _, c := range clients {
				c.Close()
			}
			stats := stop()
			if stats["driver_handed_count"] < 3*60 || stats["driver_passed_count"] == 0 || stats["driver_lost_count"] != 0 || stats["driver_no_room_count"] != 0 {
				t.Errorf("%v", stats)
			}
		})
	}
}

// hostileRequests are refused or ignored, and harm nobody.
func hostileRequests(t *testing.T, c net.Conn, r graph.Reference) {
	t.Helper()
	q := graph.Query{DepthMax: 1, ChunkLenMax: 1400, Documents: true}
	good := graph.AppendQuery(nil, q)
	for _, test := range []struct {
		f    frame.Frame
		want frame.Status
	}{
		{frame.Frame{Kind: frame.KindQuery, Tenant: testTenants, Body: good}, frame.StatusUnknown},
		{frame.Frame{Kind: frame.KindQuery, Body: good[:23]}, frame.StatusMalformed},
		{frame.Frame{Kind: frame.KindPing, Body: []byte("hello")}, frame.StatusOK},
	} {
		if got, err := roundTrip(c, test.f); err != nil || got.Status != test.want {
			t.Errorf("%+v: status %v, error %v, want %v", test.f, got.Status, err, test.want)
		}
	}
	damaged := frame.Append(nil, frame.Frame{Kind: frame.KindQuery, Body: good})
	damaged[len(damaged)-1] ^= 1 // the checksum no longer holds: no answer
	if _, err := c.Write(damaged); err != nil {
		t.Fatal(err)
	}
	// An unchecked frame goes the kernel's way, which looks at its UDP checksum.
	unchecked := frame.Append(nil, frame.Frame{Kind: frame.KindQuery, Flags: frame.FlagUnchecked, ID: 9, Body: good})
	if _, err := c.Write(unchecked); err != nil {
		t.Fatal(err)
	}
	got, err := receive(c)
	want, wantErr := r.Chunk(q, nil)
	if err != nil || wantErr != nil || got.ID != 9 || !bytes.Equal(got.Body, want) {
		t.Errorf("unchecked: status %v, errors %v, %v", got.Status, err, wantErr)
	}
}
