package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qdrant/go-client/qdrant"
	surrealdb "github.com/surrealdb/surrealdb.go"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/rocksprobe"
	"github.com/nexuscore-labs/nexus/systems/cdc/qdranttarget"
	"github.com/nexuscore-labs/nexus/systems/surreal"
	"github.com/nexuscore-labs/nexus/systems/vectorstore"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/qdrantserver"
)

// The tests write to a real SurrealDB and compare the vector store with it, point
// by point, when it is quiet.

const dim = 8

// rig is a source, a target and what is between them.
type rig struct {
	t      *testing.T
	server *surreal.Server
	db     *surrealdb.DB
	client *qdrant.Client
	routes *rocksprobe.Routes
	pipe   *Pipeline
	name   string // of database and collection
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("BPF tracing programs need root")
	}
	ctx := t.Context()
	server, err := surreal.Start(ctx, surreal.Options{Dir: t.TempDir(), Only: surreal.Embedded})
	if errors.Is(err, surreal.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rocksprobe.Resolve(server.Library); errors.Is(err, rocksprobe.ErrUnknownBuild) {
		_ = server.Stop()
		t.Skip(err)
	}
	r := &rig{t: t, server: server, name: "records"}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	if r.db, err = server.Connect(ctx, "nexus_test", "main"); err != nil {
		t.Fatal(err)
	}
	r.query("DEFINE TABLE records")
	r.client = serveQdrant(t, r.name)
	if r.routes, err = rocksprobe.OpenRoutes(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.routes.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func serveQdrant(t *testing.T, collection string) *qdrant.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	store, err := vectorstore.Open(t.TempDir(), vectorstore.Options{SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	server, ended := qdrantserver.New(store), make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	client, err := qdranttarget.Dial("127.0.0.1", listener.Addr().(*net.TCPAddr).Port, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		server.Stop(0)
		if err := errors.Join(<-ended, store.Close()); err != nil {
			t.Error(err)
		}
	})
	params := &qdrant.VectorParams{Size: dim, Distance: qdrant.Distance_Dot}
	if err := client.CreateCollection(t.Context(), &qdrant.CreateCollection{CollectionName: collection, VectorsConfig: qdrant.NewVectorsConfig(params)}); err != nil {
		t.Fatal(err)
	}
	return client
}

func (r *rig) start(change func(*Options)) {
	r.t.Helper()
	o := Options{Server: r.server, Namespace: "nexus_test", Database: "main", Qdrant: r.client, Dir: r.t.TempDir(),
		Routes: r.routes, Vector: "v", Payload: []string{"n"}}
	if change != nil {
		change(&o)
	}
	p, err := Start(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.pipe = p
	r.t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			r.t.Error(err)
		}
	})
}

func (r *rig) route(theta float32) {
	r.t.Helper()
	if _, err := r.routes.Set(rocksprobe.Route{Table: "records", Collection: r.name, Theta: theta}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) query(text string) {
	r.t.Helper()
	if _, err := surrealdb.Query[any](r.t.Context(), r.db, text, nil); err != nil {
		r.t.Fatalf("%s: %v", text, err)
	}
}

func vectorText(rng *rand.Rand) string {
	parts := make([]string, dim)
	for i := range parts {
		parts[i] = fmt.Sprintf("%.6f", rng.NormFloat64())
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// sourceVectors is the truth.
func (r *rig) sourceVectors() map[string][]float32 {
	r.t.Helper()
	found, err := surrealdb.Query[[]struct {
		K string `json:"k"`
		V []any  `json:"v"`
	}](r.t.Context(), r.db, "SELECT <string>id AS k, v FROM records WHERE v != NONE", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string][]float32{}
	for _, record := range (*found)[0].Result {
		v := make([]float32, len(record.V))
		for i, x := range record.V {
			switch x := x.(type) {
			case float64:
				v[i] = float32(x)
			case uint64:
				v[i] = float32(x)
			default:
				r.t.Fatalf("an element is a %T", x)
			}
		}
		out["records:i:"+strings.TrimPrefix(record.K, "records:")] = v
	}
	return out
}

func (r *rig) targetVectors() map[string][]float32 {
	r.t.Helper()
	limit := uint32(10000)
	points, err := r.client.Scroll(r.t.Context(), &qdrant.ScrollPoints{CollectionName: r.name, Limit: &limit,
		WithPayload: qdrant.NewWithPayload(true), WithVectors: qdrant.NewWithVectors(true)})
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string][]float32{}
	for _, p := range points {
		out[p.GetPayload()[qdranttarget.FieldKey].GetStringValue()] = p.GetVectors().GetVector().GetDense().GetData()
	}
	return out
}

func distance(a, b []float32) float64 {
	var dot, x, y float64
	for i := range a {
		dot, x, y = dot+float64(a[i])*float64(b[i]), x+float64(a[i])*float64(a[i]), y+float64(b[i])*float64(b[i])
	}
	return 1 - dot/math.Sqrt(x*y)
}

// equal waits until the store equals the source up to theta, and says what differs if it never does.
func (r *rig) equal(theta float64) {
	r.t.Helper()
	until := time.Now().Add(10 * time.Second)
	for {
		wrong := compare(r.sourceVectors(), r.targetVectors(), theta)
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(until) {
			r.t.Fatalf("%d points are wrong: %v; %v", len(wrong), wrong[:min(5, len(wrong))], r.pipe.Err())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func compare(source, target map[string][]float32, theta float64) []string {
	var wrong []string
	for key, v := range source {
		switch w, found := target[key]; {
		case !found:
			wrong = append(wrong, key+" is missing")
		case len(v) != len(w):
			wrong = append(wrong, key+" has another length")
		case distance(v, w) > theta+1e-6:
			wrong = append(wrong, fmt.Sprintf("%s is off by %g", key, distance(v, w)))
		}
	}
	for key := range target {
		if _, found := source[key]; !found {
			wrong = append(wrong, key+" is extra")
		}
	}
	return wrong
}

func TestFollows(t *testing.T) {
	r := newRig(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 20 { // before the pipeline: comes by the resync
		r.query(fmt.Sprintf("CREATE records:%d SET v = %s, n = 0", i, vectorText(rng)))
	}
	r.route(0)
	r.start(nil)
	r.equal(0)
	for i := 20; i < 60; i++ {
		r.query(fmt.Sprintf("CREATE records:%d SET v = %s, n = 0", i, vectorText(rng)))
	}
	for i := range 30 {
		r.query(fmt.Sprintf("UPDATE records:%d SET v = %s, n += 1", i, vectorText(rng)))
	}
	for i := 10; i < 25; i++ {
		r.query(fmt.Sprintf("DELETE records:%d", i))
	}
	r.query("UPDATE records:1 SET v = NONE") // no vector, no point
	r.query(fmt.Sprintf("BEGIN; UPDATE records:2 SET v = %s; CREATE records:900 SET v = %s; COMMIT", vectorText(rng), vectorText(rng)))
	for i := range 10 {
		text := fmt.Sprintf("BEGIN; CREATE records:%d SET v = %s; UPDATE records:3 SET v = %s; CANCEL", 1000+i, vectorText(rng), vectorText(rng))
		if _, err := surrealdb.Query[any](t.Context(), r.db, text, nil); err == nil {
			t.Error("a cancelled transaction reports nothing")
		}
	}
	r.equal(0)
	s := r.pipe.Source()
	if s.Reread.Load() != 0 || s.Refused.Load() != 0 || s.Losses.Load() != 0 || r.pipe.Resyncs() != 1 {
		t.Errorf("%d read again, %d refused, %d losses, %d resyncs", s.Reread.Load(), s.Refused.Load(), s.Losses.Load(), r.pipe.Resyncs())
	}
	if s.Put.Load() != 40+30+15+1+2 {
		t.Errorf("%d changes were put, %d were made", s.Put.Load(), 40+30+15+1+2)
	}
}

// TestSkips changes a vector by little and by much: the little stays away, and
// drifting by little adds up.
func TestSkips(t *testing.T) {
	r := newRig(t)
	r.route(0.02)
	r.start(nil)
	at := func(angle float64) string {
		return fmt.Sprintf("[%.9f, %.9f, 0, 0, 0, 0, 0, 0]", math.Cos(angle), math.Sin(angle))
	}
	r.query("CREATE records:1 SET v = " + at(0))
	const steps, step = 20, 0.05 // 0.05 rad is a distance of 0.00125, 0.2 rad of 0.02
	for i := 1; i <= steps; i++ {
		r.query("UPDATE records:1 SET v = " + at(float64(i)*step))
		r.query(fmt.Sprintf("UPDATE records:1 SET counter = %d", i))
	}
	r.equal(0.02)
	s := r.pipe.Source()
	for s.Changes.Load() < 1+2*steps {
		time.Sleep(time.Millisecond)
	}
	if put, skipped := s.Put.Load(), s.Skipped.Load(); put < 4 || put > 6 || put+skipped != 1+2*steps {
		t.Errorf("%d put and %d skipped of %d", put, skipped, 1+2*steps)
	}
	r.query("UPDATE records:1 SET v = " + at(3))
	r.equal(0.02)
}

// TestUnreadableIsReread writes what this program can't read from the batch: the
// store is asked for it.
func TestUnreadableIsReread(t *testing.T) {
	r := newRig(t)
	r.route(0)
	r.start(nil)
	rng := rand.New(rand.NewPCG(3, 4))
	r.query("CREATE records:1 SET t = 1.5dec, v = " + vectorText(rng))
	r.query("CREATE records:2 SET s = string::repeat('x', 300000), v = " + vectorText(rng))
	r.query("CREATE records:3 SET v = " + vectorText(rng))
	r.equal(0)
	if n := r.pipe.Source().Reread.Load(); n != 2 {
		t.Errorf("%d records were read again, want 2", n)
	}
}

// TestLossIsRepaired gives the probe a ring too small for a burst.
func TestLossIsRepaired(t *testing.T) {
	r := newRig(t)
	r.route(0)
	r.start(func(o *Options) { o.Probe.RingBytes = 4096 })
	rng := rand.New(rand.NewPCG(5, 6))
	for burst := range 3 {
		var text strings.Builder
		text.WriteString("BEGIN;")
		for i := range 200 {
			fmt.Fprintf(&text, "CREATE records:%d SET v = %s;", burst*200+i, vectorText(rng))
		}
		text.WriteString("COMMIT")
		r.query(text.String())
	}
	r.equal(0)
	if r.pipe.Source().Losses.Load() == 0 || r.pipe.Resyncs() < 2 {
		t.Errorf("%d losses, %d resyncs: the ring was not too small", r.pipe.Source().Losses.Load(), r.pipe.Resyncs())
	}
}

// TestRestart ends the pipeline, changes the source behind its back, and starts it again.
func TestRestart(t *testing.T) {
	r := newRig(t)
	r.route(0)
	r.start(nil)
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range 30 {
		r.query(fmt.Sprintf("CREATE records:%d SET v = %s", i, vectorText(rng)))
	}
	r.equal(0)
	if err := r.pipe.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.query("DELETE records:1; UPDATE records:2 SET v = " + vectorText(rng) + "; CREATE records:99 SET v = " + vectorText(rng))
	if err := r.server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.db, err = r.server.Connect(t.Context(), "nexus_test", "main"); err != nil {
		t.Fatal(err)
	}
	r.start(nil)
	r.equal(0)
	r.query("DELETE records:3")
	r.equal(0)
}

// TestManyWriters lets connections update the same records at once: the newest
// state of each must win.
func TestManyWriters(t *testing.T) {
	r := newRig(t)
	r.route(0)
	r.start(nil)
	var wg sync.WaitGroup
	for w := range 4 {
		db, err := r.server.Connect(t.Context(), "nexus_test", "main")
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer db.Close(context.Background())
			rng := rand.New(rand.NewPCG(9, uint64(w)))
			for range 100 {
				text := fmt.Sprintf("UPSERT records:%d SET v = %s", rng.IntN(10), vectorText(rng))
				if rng.IntN(5) == 0 {
					text = fmt.Sprintf("DELETE records:%d", rng.IntN(10))
				}
				// Writers of one record may conflict: then nothing was committed.
				_, _ = surrealdb.Query[any](t.Context(), db, text, nil)
			}
		})
	}
	wg.Wait()
	r.equal(0)
}

func TestRefusals(t *testing.T) {
	for name, server := range map[string]*surreal.Server{
		"unknown version":  {Kind: surreal.Embedded, Version: "surrealdb-9.9.9"},
		"nobody listening": {Kind: surreal.Embedded, Version: "surrealdb-3.0.2", URL: "ws://127.0.0.1:1"},
	} {
		if p, err := Start(t.Context(), Options{Server: server}); err == nil {
			t.Errorf("%s was accepted", name)
			_ = p.Close(t.Context())
		}
	}
}
