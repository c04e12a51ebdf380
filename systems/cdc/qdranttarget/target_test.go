// The sink and Qdrant's client against the embedded server: it goes down, the
// sink is killed, points are lost and altered behind its back. What is compared
// at the end is every point.
package qdranttarget

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
	"github.com/nexuscore-labs/nexus/systems/vectorstore"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/qdrantserver"
)

var ctx = context.Background()

const collection, dim = "records", 4

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// served is an embedded server whose store survives restarts.
type served struct {
	t      testing.TB
	dir    string
	port   int
	store  *vectorstore.Store
	server *qdrantserver.Server
	ended  chan error
}

func serve(t testing.TB) *served {
	s := &served{t: t, dir: t.TempDir()}
	s.start()
	t.Cleanup(s.stop)
	client := s.client()
	must(t, client.CreateCollection(ctx, &qdrant.CreateCollection{CollectionName: collection, VectorsConfig: qdrant.NewVectorsConfig(&qdrant.VectorParams{Size: dim, Distance: qdrant.Distance_Dot})}))
	return s
}

func (s *served) start() {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(s.port))
	must(s.t, err)
	s.port = listener.Addr().(*net.TCPAddr).Port
	s.store, err = vectorstore.Open(s.dir, vectorstore.Options{SegmentBytes: 1 << 20})
	must(s.t, err)
	s.server, s.ended = qdrantserver.New(s.store), make(chan error, 1)
	go func() { s.ended <- s.server.Serve(listener) }()
}

func (s *served) stop() {
	s.t.Helper()
	s.server.Stop(0)
	must(s.t, <-s.ended)
	must(s.t, s.store.Close())
}

func (s *served) client() *qdrant.Client {
	s.t.Helper()
	client := dial(s.t, s.port)
	return client
}

func dial(t testing.TB, port int) *qdrant.Client {
	t.Helper()
	client, err := Dial("127.0.0.1", port, "")
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// change is what the seed says happens at a position: it can be repeated.
func change(position uint64) sink.Change {
	rng := rand.New(rand.NewPCG(position, 11))
	c := sink.Change{Position: position, Collection: collection, Key: fmt.Sprintf("record:%d", rng.IntN(60)), Delete: rng.IntN(5) == 0}
	if !c.Delete {
		for range dim {
			c.Vector = append(c.Vector, rng.Float32())
		}
		c.Payload = map[string]any{"position": int64(position)}
	}
	return c
}

// wanted is the state after so many changes.
func wanted(upTo uint64) map[string]sink.Change {
	out := map[string]sink.Change{}
	for position := uint64(1); position <= upTo; position++ {
		if c := change(position); c.Delete {
			delete(out, c.Key)
		} else {
			out[c.Key] = c
		}
	}
	return out
}

// compare looks at every point.
func compare(t testing.TB, client *qdrant.Client, want map[string]sink.Change) {
	t.Helper()
	points, err := client.Scroll(ctx, &qdrant.ScrollPoints{CollectionName: collection, Limit: qdrant.PtrOf(uint32(10_000)), WithVectors: qdrant.NewWithVectors(true)})
	must(t, err)
	if len(points) != len(want) {
		t.Errorf("%d points, want %d", len(points), len(want))
	}
	for _, p := range points {
		key := p.GetPayload()[FieldKey].GetStringValue()
		c, ok := want[key]
		fingerprint, err := Fingerprint(c)
		must(t, err)
		if !ok || p.GetPayload()["position"].GetIntegerValue() != int64(c.Position) || p.GetId().GetUuid() != PointID(key).GetUuid() ||
			uint64(p.GetPayload()[FieldFingerprint].GetIntegerValue()) != fingerprint || fmt.Sprint(p.GetVectors().GetVector().GetDense().GetData()) != fmt.Sprint(c.Vector) {
			t.Errorf("%s is %v, want %+v", key, p, c)
		}
	}
}

func newSink(t testing.TB, client *qdrant.Client, dir string) *sink.Sink {
	t.Helper()
	s, err := sink.New(New(client), options(dir))
	must(t, err)
	return s
}

func options(dir string) sink.Options {
	return sink.Options{DeadLetterFile: filepath.Join(dir, "dead"), CheckpointFile: filepath.Join(dir, "checkpoint"), CheckpointEvery: 5 * time.Millisecond,
		PauseMin: time.Millisecond, PauseMax: 20 * time.Millisecond, AttemptMax: time.Second, BatchMax: 20, QueueMax: 100}
}

func TestServerDown(t *testing.T) {
	server := serve(t)
	s := newSink(t, server.client(), t.TempDir())
	for position := uint64(1); position <= 1500; position++ {
		must(t, s.Put(ctx, change(position)))
		if position%500 == 250 {
			server.stop()
			go func() {
				time.Sleep(30 * time.Millisecond)
				server.start()
			}()
			for s.Stats().Retries.Load() == 0 {
				position++
				must(t, s.Put(ctx, change(position)))
			}
			must(t, s.Flush(ctx))
		}
	}
	must(t, s.Flush(ctx))
	if s.Stats().Retries.Load() == 0 || s.Stats().DeadLetters.Load() != 0 {
		t.Errorf("%d retries, %d dead letters", s.Stats().Retries.Load(), s.Stats().DeadLetters.Load())
	}
	compare(t, server.client(), wanted(s.Position()))
	must(t, s.Close(ctx))
}

func TestRejectedChangesArePutAside(t *testing.T) {
	server, dir := serve(t), t.TempDir()
	s := newSink(t, server.client(), dir)
	want := wanted(100)
	bad := []sink.Change{
		{Collection: collection, Key: "dimension", Vector: []float32{1}},
		{Collection: "nowhere", Key: "collection", Vector: []float32{1, 2, 3, 4}},
		{Collection: collection, Key: "nan", Vector: []float32{1, 2, 3, float32(math.NaN())}},
		{Collection: collection, Key: "payload", Vector: []float32{1, 2, 3, 4}, Payload: map[string]any{"text": "\xff"}},
		{Collection: collection, Key: "huge", Vector: []float32{1, 2, 3, 4}, Payload: map[string]any{"text": strings.Repeat("x", 10<<20)}},
	}
	for position := uint64(1); position <= 100; position++ {
		must(t, s.Put(ctx, change(position)))
		if position%20 == 0 {
			c := bad[position/20-1]
			c.Position = position
			must(t, s.Put(ctx, c))
		}
	}
	must(t, s.Close(ctx))
	compare(t, server.client(), want)
	letters, err := sink.ReadDeadLetters(filepath.Join(dir, "dead"))
	must(t, err)
	seen := map[string]bool{}
	for _, letter := range letters {
		seen[letter.Change.Key] = true
	}
	for _, c := range bad {
		if !seen[c.Key] {
			t.Errorf("%s is not put aside", c.Key)
		}
	}
	if len(letters) != len(bad) || s.Position() != 100 {
		t.Errorf("%d dead letters, position %d", len(letters), s.Position())
	}
}

const killPortEnv, killDirEnv = "QDRANTTARGET_PORT", "QDRANTTARGET_DIR"

func TestMain(m *testing.M) {
	if port := os.Getenv(killPortEnv); port != "" {
		if err := killChild(port, os.Getenv(killDirEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const killChanges = 6000

// killChild resumes at the checkpoint and goes on to the last change.
func killChild(port, dir string) error {
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	client, err := Dial("127.0.0.1", n, "")
	if err != nil {
		return err
	}
	o := options(dir)
	from, err := sink.ReadCheckpoint(o.CheckpointFile)
	if err != nil {
		return err
	}
	s, err := sink.New(New(client), o)
	if err != nil {
		return err
	}
	for position := from + 1; position <= killChanges; position++ {
		if err := s.Put(ctx, change(position)); err != nil {
			return err
		}
	}
	return s.Close(ctx)
}

// TestKilledSink: the sink's process is killed again and again and goes on at its
// checkpoint until everything is there.
func TestKilledSink(t *testing.T) {
	server, dir := serve(t), t.TempDir()
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	kills := 0
	for {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), killPortEnv+"="+strconv.Itoa(server.port), killDirEnv+"="+dir)
		child.Stderr = os.Stderr
		must(t, child.Start())
		timer := time.AfterFunc(time.Duration(50+rng.IntN(150))*time.Millisecond, func() { _ = child.Process.Kill() })
		if kills >= 8 {
			timer.Stop() // enough: it may finish
		}
		err := child.Wait()
		timer.Stop()
		if err == nil {
			break
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
		kills++
	}
	t.Logf("%d kills", kills)
	if kills == 0 {
		t.Error("it was never killed")
	}
	at, err := sink.ReadCheckpoint(filepath.Join(dir, "checkpoint"))
	must(t, err)
	if at != killChanges {
		t.Errorf("checkpoint at %d", at)
	}
	compare(t, server.client(), wanted(killChanges))
}

// source is the wanted state.
type source map[string]sink.Change

func (s source) Scan(_ context.Context, visit func(sink.Entry) error) error {
	for key, c := range s {
		fingerprint, err := Fingerprint(c)
		if err != nil {
			return err
		}
		if err := visit(sink.Entry{Collection: collection, Key: key, Fingerprint: fingerprint}); err != nil {
			return err
		}
	}
	return nil
}

func (s source) Read(_ context.Context, _, key string) (sink.Change, error) {
	c, ok := s[key]
	c.Delete = !ok
	return c, nil
}

// TestResync: changes that never came are found by comparing both sides.
func TestResync(t *testing.T) {
	server := serve(t)
	client := server.client()
	s := newSink(t, client, t.TempDir())
	for position := uint64(1); position <= 400; position++ {
		if position%3 != 0 { // a third is lost
			must(t, s.Put(ctx, change(position)))
		}
	}
	must(t, s.Flush(ctx))
	// Points of others are left alone.
	_, err := client.Upsert(ctx, &qdrant.UpsertPoints{CollectionName: collection, Wait: qdrant.PtrOf(true), Points: []*qdrant.PointStruct{{Id: qdrant.NewIDNum(5), Vectors: qdrant.NewVectors(1, 2, 3, 4)}}})
	must(t, err)
	target := New(client)
	scan := func(ctx context.Context, visit func(sink.Entry) error) error {
		return target.Scan(ctx, collection, visit)
	}
	report, err := s.Resync(ctx, source(wanted(400)), scan)
	must(t, err)
	if report.Repaired == 0 || report.Different == 0 || report.Source != len(wanted(400)) {
		t.Errorf("%+v", report)
	}
	again, err := s.Resync(ctx, source(wanted(400)), scan)
	must(t, err)
	if again.Repaired != 0 {
		t.Errorf("the second resync finds %+v", again)
	}
	_, err = client.Delete(ctx, &qdrant.DeletePoints{CollectionName: collection, Wait: qdrant.PtrOf(true), Points: qdrant.NewPointsSelector(qdrant.NewIDNum(5))})
	must(t, err)
	compare(t, client, wanted(400))
	must(t, s.Close(ctx))
}

// BenchmarkSink is the whole way to a durable point in an embedded server of the
// same process.
func BenchmarkSink(b *testing.B) {
	for _, dim := range []int{4, 384} {
		for _, keep := range []bool{false, true} {
			b.Run(fmt.Sprintf("dim%d/keep=%v", dim, keep), func(b *testing.B) { benchSink(b, dim, keep) })
		}
	}
}

func benchSink(b *testing.B, dim int, keep bool) {
	const records = 20_000
	server, name := serve(b), "bench"
	client := server.client()
	must(b, client.CreateCollection(ctx, &qdrant.CreateCollection{CollectionName: name, VectorsConfig: qdrant.NewVectorsConfig(&qdrant.VectorParams{Size: uint64(dim), Distance: qdrant.Distance_Cosine}),
		OptimizersConfig: &qdrant.OptimizersConfigDiff{IndexingThreshold: qdrant.PtrOf(uint64(0))}}))
	o := options(b.TempDir())
	o.BatchMax, o.QueueMax, o.Workers = 256, 8192, 2
	s, err := sink.New(New(client), o)
	must(b, err)
	vector := make([]float32, dim)
	for i := range vector {
		vector[i] = float32(i + 1)
	}
	for i := range records {
		must(b, s.Put(ctx, sink.Change{Collection: name, Key: strconv.Itoa(i), Vector: vector}))
	}
	must(b, s.Flush(ctx))
	b.ResetTimer()
	n := uint64(0)
	for b.Loop() {
		n++
		c := sink.Change{Position: n, Collection: name, Key: strconv.FormatUint(n%records, 10), KeepVector: keep, Payload: map[string]any{"n": int64(n)}}
		if !keep {
			c.Vector = slices.Clone(vector)
			c.Vector[n%uint64(dim)]++
		}
		must(b, s.Put(ctx, c))
	}
	must(b, s.Flush(ctx))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
	must(b, s.Close(ctx))
}
