// Everything here goes through Qdrant's own Go client: against the embedded
// server and, when QDRANT_URL (host:port of its gRPC) is set, against a real
// Qdrant, which decides what is right.
package qdrantserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qdrant/go-client/qdrant"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

var ctx = context.Background()

// served is a store behind a listener on loopback.
type served struct {
	t      testing.TB
	store  *vectorstore.Store
	server *Server
	client *qdrant.Client
	port   int
	ended  chan error
}

func serve(t testing.TB, dir string, o vectorstore.Options) *served {
	t.Helper()
	store, err := vectorstore.Open(dir, o)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &served{t: t, store: store, server: New(store), port: listener.Addr().(*net.TCPAddr).Port, ended: make(chan error, 1)}
	go func() { s.ended <- s.server.Serve(listener) }()
	s.client = dial(t, "127.0.0.1", s.port)
	return s
}

func dial(t testing.TB, host string, port int) *qdrant.Client {
	t.Helper()
	client, err := qdrant.NewClient(&qdrant.Config{Host: host, Port: port, PoolSize: 1, SkipCompatibilityCheck: true})
	must(t, err)
	return client
}

func (s *served) stop() {
	s.t.Helper()
	must(s.t, s.client.Close())
	s.server.Stop(time.Second)
	must(s.t, <-s.ended)
	must(s.t, s.store.Close())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// onEach runs a test against each server there is.
func onEach(t *testing.T, test func(t *testing.T, client *qdrant.Client)) {
	t.Run("embedded", func(t *testing.T) {
		s := serve(t, t.TempDir(), vectorstore.Options{})
		t.Cleanup(s.stop)
		test(t, s.client)
	})
	url := os.Getenv("QDRANT_URL")
	if url == "" {
		return
	}
	t.Run("real", func(t *testing.T) {
		host, port, err := net.SplitHostPort(strings.TrimPrefix(strings.TrimPrefix(url, "http://"), "grpc://"))
		must(t, err)
		n, err := strconv.Atoi(port)
		must(t, err)
		client := dial(t, host, n)
		t.Cleanup(func() { _ = client.Close() })
		test(t, client)
	})
}

var collectionNumber atomic.Int64

// makeCollection makes one that is gone after the test.
func makeCollection(t testing.TB, client *qdrant.Client, dim uint64, distance qdrant.Distance) string {
	t.Helper()
	name := fmt.Sprintf("nexus_conformance_%d_%d", os.Getpid(), collectionNumber.Add(1))
	must(t, client.CreateCollection(ctx, &qdrant.CreateCollection{CollectionName: name, VectorsConfig: qdrant.NewVectorsConfig(&qdrant.VectorParams{Size: dim, Distance: distance})}))
	t.Cleanup(func() { _ = client.DeleteCollection(ctx, name) })
	return name
}

func codeOf(err error) codes.Code {
	for err != nil {
		if s, ok := status.FromError(err); ok {
			return s.Code()
		}
		wrapped, ok := err.(interface{ Unwrap() error })
		if !ok {
			return codes.Unknown
		}
		err = wrapped.Unwrap()
	}
	return codes.OK
}

func wantCode(t testing.TB, what string, err error, want codes.Code) {
	t.Helper()
	if got := codeOf(err); got != want {
		t.Errorf("%s: %v, want %v (%v)", what, got, want, err)
	}
}

func point(id uint64, payload map[string]any, vector ...float32) *qdrant.PointStruct {
	return &qdrant.PointStruct{Id: qdrant.NewIDNum(id), Vectors: qdrant.NewVectorsDense(vector), Payload: qdrant.NewValueMap(payload)}
}

func upsert(t testing.TB, client *qdrant.Client, name string, points ...*qdrant.PointStruct) {
	t.Helper()
	result, err := client.Upsert(ctx, &qdrant.UpsertPoints{CollectionName: name, Wait: qdrant.PtrOf(true), Points: points})
	must(t, err)
	if result.GetStatus() != qdrant.UpdateStatus_Completed {
		t.Errorf("upsert with wait is %v", result.GetStatus())
	}
}

// cities are the points of most tests, in 4 dimensions.
func cities(t testing.TB, client *qdrant.Client) string {
	t.Helper()
	name := makeCollection(t, client, 4, qdrant.Distance_Dot)
	upsert(t, client, name,
		point(1, map[string]any{"city": "Berlin", "price": 1.99, "tags": []any{"a", "b"}, "n": 1}, 0.05, 0.61, 0.76, 0.74),
		point(2, map[string]any{"city": []any{"Berlin", "London"}, "price": 2.5, "n": 2}, 0.19, 0.81, 0.75, 0.11),
		point(3, map[string]any{"city": []any{"Berlin", "Moscow"}, "n": 3, "in": []any{map[string]any{"k": "x", "v": 1}, map[string]any{"k": "y", "v": 2}}}, 0.36, 0.55, 0.47, 0.94),
		point(4, map[string]any{"city": "London", "ok": true, "n": 4, "at": "2024-03-01T00:00:00Z"}, 0.18, 0.01, 0.85, 0.80),
		point(5, map[string]any{"count": []any{0, 1}, "n": 5, "at": "2025-03-01T00:00:00Z"}, 0.24, 0.18, 0.22, 0.44),
		point(6, map[string]any{"city": nil, "n": 6}, 0.35, 0.08, 0.11, 0.44),
		point(7, nil, 0.45, 0.07, 0.21, 0.04),
	)
	return name
}

func scroll(t testing.TB, client *qdrant.Client, name string, filter *qdrant.Filter) []uint64 {
	t.Helper()
	found, err := client.Scroll(ctx, &qdrant.ScrollPoints{CollectionName: name, Filter: filter, Limit: qdrant.PtrOf(uint32(100))})
	must(t, err)
	ids := []uint64{}
	for _, p := range found {
		ids = append(ids, p.GetId().GetNum())
	}
	return ids
}
