package qdrantserver

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/systems/vectorstore"
)

var options = vectorstore.Options{SnapshotBytes: 50 << 10, SegmentBytes: 512 << 10}

// serveDirEnv makes the test binary a server that tests kill.
const serveDirEnv = "QDRANTSERVER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveDirEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	store, err := vectorstore.Open(dir, options)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return New(store).Serve(listener)
}

func startChild(t *testing.T, dir string) (*exec.Cmd, *qdrant.Client) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env, cmd.Stderr = append(os.Environ(), serveDirEnv+"="+dir), os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var port int
	if _, err := fmt.Fscan(bufio.NewReader(out), &port); err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	return cmd, dial(t, "127.0.0.1", port)
}

// TestKillUnderClients: a server is killed under four clients again and again;
// what each heard acknowledged is there afterwards.
func TestKillUnderClients(t *testing.T) {
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	const writers, ids = 4, 20
	acked := [writers][ids]int64{}
	next := [writers]int64{}
	const name = "kill"
	for life := range 4 {
		cmd, client := startChild(t, dir)
		if life == 0 {
			must(t, client.CreateCollection(ctx, &qdrant.CreateCollection{CollectionName: name, VectorsConfig: qdrant.NewVectorsConfig(&qdrant.VectorParams{Size: 2, Distance: qdrant.Distance_Euclid}),
				OptimizersConfig: &qdrant.OptimizersConfigDiff{IndexingThreshold: qdrant.PtrOf(uint64(1))}}))
		}
		for w := range writers {
			for i := range ids {
				checkVersion(t, client, name, uint64(w*ids+i), acked[w][i], ids)
			}
		}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for {
					next[w]++
					version := next[w]
					i := int(version) % ids
					id := uint64(w*ids + i)
					_, err := client.Upsert(ctx, &qdrant.UpsertPoints{CollectionName: name, Wait: qdrant.PtrOf(true), Points: []*qdrant.PointStruct{point(id, map[string]any{"v": version}, float32(id), float32(version))}})
					if err != nil {
						return
					}
					acked[w][i] = version
				}
			})
		}
		time.Sleep(time.Duration(30+rng.IntN(250)) * time.Millisecond)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		wg.Wait()
		must(t, client.Close())
	}
	if next[0] < 8 {
		t.Errorf("only %d changes were tried", next[0])
	}
}

func checkVersion(t *testing.T, client *qdrant.Client, name string, id uint64, acked int64, step int64) {
	t.Helper()
	p := get(t, client, name, id)
	if p == nil {
		if acked != 0 {
			t.Errorf("point %d: version %d was acknowledged and is gone", id, acked)
		}
		return
	}
	v := p.GetPayload()["v"].GetIntegerValue()
	if v < acked || v > acked+2*step && acked != 0 {
		t.Errorf("point %d: acknowledged %d, found %d", id, acked, v)
	}
	if data := p.GetVectors().GetVector().GetDense().GetData(); !slices.Equal(data, []float32{float32(id), float32(v)}) {
		t.Errorf("point %d of version %d has vector %v", id, v, data)
	}
}

// TestRandomChangesThroughClient: changes and restarts against a map.
func TestRandomChangesThroughClient(t *testing.T) {
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(5, 6))
	s := serve(t, dir, options)
	name := "random"
	must(t, s.client.CreateCollection(ctx, &qdrant.CreateCollection{CollectionName: name, VectorsConfig: qdrant.NewVectorsConfig(&qdrant.VectorParams{Size: 4, Distance: qdrant.Distance_Euclid}),
		OptimizersConfig: &qdrant.OptimizersConfigDiff{IndexingThreshold: qdrant.PtrOf(uint64(1))}, QuantizationConfig: qdrant.NewQuantizationScalar(&qdrant.ScalarQuantization{Type: qdrant.QuantizationType_Int8})}))
	model := map[uint64][]float32{}
	for step := range 300 {
		id := rng.Uint64N(120)
		if rng.IntN(4) == 0 {
			_, err := s.client.Delete(ctx, &qdrant.DeletePoints{CollectionName: name, Wait: qdrant.PtrOf(true), Points: qdrant.NewPointsSelector(qdrant.NewIDNum(id))})
			must(t, err)
			delete(model, id)
		} else {
			v := []float32{rng.Float32(), rng.Float32(), rng.Float32(), rng.Float32()}
			upsert(t, s.client, name, point(id, map[string]any{"id": int64(id)}, v...))
			model[id] = v
		}
		if step%10 == 0 {
			checkNearest(t, s.client, name, model, []float32{rng.Float32(), rng.Float32(), rng.Float32(), rng.Float32()})
		}
		if step%75 == 74 {
			s.stop()
			s = serve(t, dir, options)
		}
	}
	ids := scroll(t, s.client, name, nil)
	if len(ids) != min(len(model), 100) {
		t.Errorf("%d points, want %d", len(ids), len(model))
	}
	full, err := s.client.CreateFullSnapshot(ctx)
	must(t, err)
	all, err := s.client.ListFullSnapshots(ctx)
	must(t, err)
	if len(all) != 1 || all[0].GetName() != full.GetName() || full.GetSize() == 0 {
		t.Errorf("snapshots %v, made %v", all, full)
	}
	s.stop()
}

// checkNearest: a collection of this size is found in exactly.
func checkNearest(t *testing.T, client *qdrant.Client, name string, model map[uint64][]float32, q []float32) {
	t.Helper()
	type hit struct {
		id uint64
		d  float32
	}
	var want []hit
	for id, v := range model {
		var d float32
		for i := range v {
			d += (v[i] - q[i]) * (v[i] - q[i])
		}
		want = append(want, hit{id, d})
	}
	slices.SortFunc(want, func(a, b hit) int {
		if a.d < b.d {
			return -1
		}
		return 1
	})
	found, err := client.Query(ctx, &qdrant.QueryPoints{CollectionName: name, Query: qdrant.NewQueryDense(q), Limit: qdrant.PtrOf(uint64(5))})
	must(t, err)
	if len(found) != min(5, len(want)) {
		t.Fatalf("%d found of %d", len(found), len(want))
	}
	for i, p := range found {
		if p.GetId().GetNum() != want[i].id {
			t.Fatalf("hit %d is point %v, want %d", i, p.GetId(), want[i].id)
		}
	}
}
