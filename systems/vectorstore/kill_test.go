package vectorstore

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// killDirEnv makes the test binary the process that TestKill kills.
const killDirEnv = "VECTORSTORE_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDirEnv); dir != "" {
		if err := killChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const killWriters, killIDs = 4, 25

// killChild writes versions of points until it is killed, and says which were
// acknowledged.
func killChild(dir string) error {
	s, err := Open(dir, Options{SnapshotBytes: 30 << 10, SegmentBytes: 256 << 10})
	if err != nil {
		return err
	}
	config := CollectionConfig{Dim: 4, Metric: vectors.Euclid, IndexFromBytes: 1}
	if _, err := s.collection(testName); err != nil {
		if err := s.CreateCollection(ctx, testName, config); err != nil {
			return err
		}
	}
	var out sync.Mutex
	var writers sync.WaitGroup
	for writer := range uint64(killWriters) {
		writers.Go(func() {
			for version := int64(1); ; version++ {
				id := NumID(writer*killIDs + uint64(version)%killIDs)
				p := Point{id, []float32{float32(id.Num), float32(version), 0, 0}, Payload{"v": version}}
				deleted := version%7 == 0
				var err error
				if deleted {
					_, err = s.Delete(ctx, testName, Selector{IDs: []PointID{id}})
				} else {
					_, err = s.Upsert(ctx, testName, []Point{p})
				}
				if err != nil {
					return
				}
				out.Lock()
				fmt.Println(id.Num, version, deleted)
				out.Unlock()
			}
		})
	}
	writers.Wait()
	return nil
}

// acknowledged is what the killed process said of a point last.
type acknowledged struct {
	version int64
	deleted bool
}

// TestKill: after kill -9 in the middle of writes and snapshots every point is
// as acknowledged last, or as the one change after it that was under way. The
// next life goes on in the same folder.
func TestKill(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	for range 4 {
		dir := t.TempDir()
		acked, lines := killOnce(t, dir, time.Duration(20+rng.IntN(250))*time.Millisecond)
		s := openStore(t, dir, Options{SnapshotBytes: -1, SegmentBytes: 256 << 10})
		for id, want := range acked {
			checkSurvivor(t, s, id, want)
		}
		t.Logf("%d acknowledgements, recovery %+v", lines, s.Recovery())
		closeStore(t, s)
	}
}

func killOnce(t *testing.T, dir string, after time.Duration) (map[uint64]acknowledged, int) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), killDirEnv+"="+dir)
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	mustDo(t, err)
	mustDo(t, child.Start())
	acked, lines := map[uint64]acknowledged{}, 0
	var timer *time.Timer
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
		var id uint64
		var a acknowledged
		if n, _ := fmt.Sscan(scanner.Text(), &id, &a.version, &a.deleted); n == 3 && strings.Count(scanner.Text(), " ") == 2 {
			acked[id] = a
			lines++
		}
		if timer == nil {
			timer = time.AfterFunc(after, func() { _ = child.Process.Kill() })
		}
	}
	if err := child.Wait(); err == nil || lines == 0 {
		t.Fatalf("the child ended by itself after %d lines", lines)
	}
	return acked, lines
}

func checkSurvivor(t *testing.T, s *Store, id uint64, want acknowledged) {
	t.Helper()
	got, err := s.Get(testName, []PointID{NumID(id)}, true, true)
	mustDo(t, err)
	next := want.version + killIDs // the writer's next change of this point
	var version int64
	if len(got) == 1 {
		version, _ = got[0].Payload["v"].(int64)
		if got[0].Vector[0] != float32(id) || got[0].Vector[1] != float32(version) {
			t.Errorf("point %d is a mixture: %+v", id, got[0])
		}
	}
	switch {
	case len(got) == 1 && !want.deleted && version == want.version:
	case len(got) == 1 && next%7 != 0 && version == next:
	case len(got) == 0 && (want.deleted || next%7 == 0):
	default:
		t.Errorf("point %d: acknowledged %+v, found %+v", id, want, got)
	}
}
