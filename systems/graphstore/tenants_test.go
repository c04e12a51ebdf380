package graphstore

import (
	"errors"
	"sync"
	"testing"

	"github.com/nexuscore-labs/nexus/components/graph"
)

// mortal is an engine that dies when it is told to.
type mortal struct {
	graph.Engine
	closed *int
}

var errDied = errors.New("died")

func (m mortal) Query(q graph.Query, dst []byte) ([]byte, error) {
	if q.Root == 1 {
		return dst, errDied
	}
	return m.Engine.Query(q, dst)
}

func (m mortal) Close() error { *m.closed++; return m.Engine.Close() }

func TestAnEngineThatDiesIsReplaced(t *testing.T) {
	image, err := graph.Build([][]uint32{{1}, {0}}, [][]byte{{'a'}, {'b'}})
	if err != nil {
		t.Fatal(err)
	}
	opened, closed := 0, 0
	s := NewTenants(2, func(uint32) (graph.Engine, error) {
		opened++
		native, err := graph.NewNative(image, graph.Options{Cursors: 1})
		return mortal{native, &closed}, err
	})
	good := graph.Query{DepthMax: 1, ChunkLenMax: 100}
	deadly := good
	deadly.Root = 1
	for _, step := range []struct {
		tenant uint32
		q      graph.Query
		want   error
		opened int
	}{
		{0, good, nil, 1}, {0, deadly, errDied, 1}, {0, good, nil, 2}, {1, good, nil, 3},
		{2, good, ErrUnknownTenant, 3}, {0, graph.Query{}, graph.MalformedQuery, 3}, {0, good, nil, 3},
	} {
		if _, err := s.Query(step.tenant, step.q, nil); !errors.Is(err, step.want) || opened != step.opened {
			t.Fatalf("tenant %d %+v: error %v, want %v; %d opened", step.tenant, step.q, err, step.want, opened)
		}
	}
	if err := s.Close(); err != nil || closed != opened || s.Failed() != 1 {
		t.Fatalf("%d opened, %d closed, %d failed, error %v", opened, closed, s.Failed(), err)
	}
	if _, err := s.Query(0, good, nil); err == nil {
		t.Fatal("a closed store answered")
	}
}

func TestTenantsAtOnce(t *testing.T) {
	image, err := graph.Build([][]uint32{{1}, {0}}, [][]byte{{'a'}, {'b'}})
	if err != nil {
		t.Fatal(err)
	}
	s := NewTenants(4, func(uint32) (graph.Engine, error) {
		return graph.NewNative(image, graph.Options{ArenaGrowth: 100, Cursors: 1})
	})
	var wg sync.WaitGroup
	for worker := range uint32(8) {
		wg.Go(func() {
			for range 300 {
				if err := s.Update(worker%4, 0, []byte{byte(worker)}); err != nil {
					t.Error(err)
				}
				if _, err := s.Query(worker%4, graph.Query{DepthMax: 1, ChunkLenMax: 100, Documents: true}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s.Started() != 4 {
		t.Errorf("%d engines for 4 tenants", s.Started())
	}
}
