// A target that fails, hangs and rejects at random, and that notices when two
// changes of a key come out of order.
package sink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var ctx = context.Background()

// checked is a map that is told how to fail.
type checked struct {
	t     testing.TB
	mu    sync.Mutex
	state map[string]Change
	rng   *rand.Rand
	// fail is the share of Applies that fail, half of them after having carried
	// out a part.
	fail    float64
	down    bool
	slow    time.Duration
	poison  map[string]bool // keys that are rejected
	applies int
	largest int
}

func newChecked(t testing.TB, seed uint64) *checked {
	return &checked{t: t, state: map[string]Change{}, rng: rand.New(rand.NewPCG(seed, 1)), poison: map[string]bool{}}
}

func (c *checked) Apply(ctx context.Context, changes []Change) error {
	c.mu.Lock()
	slow := c.slow
	c.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applies++
	c.largest = max(c.largest, len(changes))
	if c.down {
		return errors.New("the target is down")
	}
	seen := map[string]bool{}
	for _, change := range changes {
		if seen[keyOf(change)] {
			c.t.Errorf("two changes of %s in one Apply", change.Key)
		}
		seen[keyOf(change)] = true
		if c.poison[change.Key] {
			return fmt.Errorf("%w: %s", ErrRejected, change.Key)
		}
	}
	part, err := len(changes), error(nil)
	if c.rng.Float64() < c.fail {
		part, err = c.rng.IntN(len(changes)+1), errors.New("failed on the way")
	}
	for _, change := range changes[:part] {
		if before := c.state[keyOf(change)]; before.Position > change.Position {
			c.t.Errorf("%s: change %d after change %d", change.Key, change.Position, before.Position)
		}
		c.state[keyOf(change)] = change
	}
	return err
}

func (c *checked) set(how func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	how()
}

func newSink(t testing.TB, target Target, o Options) *Sink {
	t.Helper()
	if o.DeadLetterFile == "" {
		o.DeadLetterFile = filepath.Join(t.TempDir(), "dead")
	}
	o.PauseMin, o.PauseMax = 10*time.Microsecond, time.Millisecond
	s, err := New(target, o)
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOrderAndCompletenessUnderFailures(t *testing.T) {
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprintf("workers%d", workers), func(t *testing.T) {
			target := newChecked(t, 1)
			target.fail = 0.4
			s := newSink(t, target, Options{Workers: workers, BatchMax: 16, QueueMax: 50})
			want, rng := map[string]uint64{}, rand.New(rand.NewPCG(2, 2))
			for position := uint64(1); position <= 3000; position++ {
				c := Change{Position: position, Collection: "c", Key: fmt.Sprint(rng.IntN(40)), Delete: rng.IntN(5) == 0}
				must(t, s.Put(ctx, c))
				want[keyOf(c)] = position
			}
			must(t, s.Flush(ctx))
			if s.Position() != 3000 {
				t.Errorf("position %d", s.Position())
			}
			for name, position := range want {
				if got := target.state[name].Position; got != position {
					t.Errorf("%q is at change %d, want %d", name, got, position)
				}
			}
			stats := s.Stats()
			if stats.Retries.Load() == 0 || stats.Applied.Load()+stats.Superseded.Load() != 3000 {
				t.Errorf("%d retries, %d applied, %d superseded", stats.Retries.Load(), stats.Applied.Load(), stats.Superseded.Load())
			}
			if target.largest > 16 {
				t.Errorf("a batch of %d", target.largest)
			}
			must(t, s.Close(ctx))
		})
	}
}

// A target that is down makes Put block with a bounded number of changes under
// way, and everything arrives once it is up.
func TestBackPressureWhileDown(t *testing.T) {
	target := newChecked(t, 1)
	target.down = true
	s := newSink(t, target, Options{QueueMax: 20, BatchMax: 5})
	var put int
	for {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		err := s.Put(short, Change{Position: uint64(put + 1), Key: fmt.Sprint(put)})
		cancel()
		if err != nil {
			break
		}
		put++
	}
	if put < 20 || put > 20+5 {
		t.Errorf("%d changes were taken with room for 20 and a batch of 5", put)
	}
	if s.Position() != 0 || s.Stats().Blocked.Load() == 0 {
		t.Errorf("position %d, %d blocked", s.Position(), s.Stats().Blocked.Load())
	}
	target.set(func() { target.down = false })
	must(t, s.Flush(ctx))
	if len(target.state) != put || s.Position() != uint64(put) {
		t.Errorf("%d of %d arrived, position %d", len(target.state), put, s.Position())
	}
	must(t, s.Close(ctx))
	if err := s.Put(ctx, Change{}); !errors.Is(err, ErrClosed) {
		t.Errorf("put after closing: %v", err)
	}
}

// A slow target gets larger batches; one that hangs is given up and tried again.
func TestSlowTarget(t *testing.T) {
	target := newChecked(t, 1)
	target.slow = 2 * time.Millisecond
	s := newSink(t, target, Options{AttemptMax: 20 * time.Millisecond})
	for i := range 2000 {
		must(t, s.Put(ctx, Change{Position: uint64(i), Key: fmt.Sprint(i)}))
	}
	must(t, s.Flush(ctx))
	if target.applies > 200 || target.largest < 50 {
		t.Errorf("2000 changes in %d batches, the largest of %d", target.applies, target.largest)
	}
	target.set(func() { target.slow = time.Hour })
	must(t, s.Put(ctx, Change{Position: 2000, Key: "hangs"}))
	for s.Stats().Retries.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	target.set(func() { target.slow = 0 })
	must(t, s.Close(ctx))
	if s.Position() != 2000 {
		t.Errorf("position %d", s.Position())
	}
}

func TestDeadLetters(t *testing.T) {
	target, file := newChecked(t, 1), filepath.Join(t.TempDir(), "dead")
	target.poison["7"], target.poison["90"], target.fail = true, true, 0.2
	s := newSink(t, target, Options{DeadLetterFile: file})
	for i := range 100 {
		must(t, s.Put(ctx, Change{Position: uint64(i), Collection: "c", Key: fmt.Sprint(i), Vector: []float32{float32(i)}, Payload: map[string]any{"a": "b"}}))
	}
	target.set(func() { target.poison["nan"] = true })
	must(t, s.Put(ctx, Change{Position: 100, Key: "nan", Vector: []float32{float32(math.NaN())}}))
	must(t, s.Close(ctx))
	letters, err := ReadDeadLetters(file)
	must(t, err)
	if len(letters) != 3 || len(target.state) != 98 || s.Position() != 100 || s.Stats().DeadLetters.Load() != 3 {
		t.Fatalf("%d dead letters, %d arrived, position %d", len(letters), len(target.state), s.Position())
	}
	if l := letters[1]; l.Change.Key != "90" || l.Change.Vector[0] != 90 || l.Change.Payload["a"] != "b" || l.Reason == "" {
		t.Errorf("%+v", l)
	}
	// A line that a crash cut off is written over by the next one.
	content, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, content[:len(content)-10], 0o644))
	if letters, err := ReadDeadLetters(file); err != nil || len(letters) != 2 {
		t.Errorf("%d letters, error %v", len(letters), err)
	}
	s = newSink(t, target, Options{DeadLetterFile: file})
	must(t, s.Put(ctx, Change{Key: "7"}))
	must(t, s.Close(ctx))
	if letters, err := ReadDeadLetters(file); err != nil || len(letters) != 3 || letters[2].Change.Key != "7" {
		t.Errorf("%d letters, error %v", len(letters), err)
	}
}

// Closed while the target is down: what was not settled is behind the checkpoint.
func TestCloseGivesUp(t *testing.T) {
	target, file := newChecked(t, 1), filepath.Join(t.TempDir(), "checkpoint")
	s := newSink(t, target, Options{CheckpointFile: file, QueueMax: 8})
	for i := range 10 {
		must(t, s.Put(ctx, Change{Position: uint64(i + 1), Key: "k"}))
	}
	must(t, s.Flush(ctx))
	target.set(func() { target.down = true })
	must(t, s.Put(ctx, Change{Position: 11, Key: "k"}))
	blocked := make(chan error)
	go func() {
		for {
			if err := s.Put(ctx, Change{Position: 12, Key: "k"}); err != nil {
				blocked <- err
				return
			}
		}
	}()
	time.Sleep(20 * time.Millisecond)
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	if err := s.Close(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	if err := <-blocked; !errors.Is(err, ErrClosed) {
		t.Errorf("the waiting put got %v", err)
	}
	if at, err := ReadCheckpoint(file); err != nil || at != 10 {
		t.Errorf("checkpoint at %d, error %v", at, err)
	}
}

// A change that keeps the vector takes over the one that it is sent together with.
func TestLatest(t *testing.T) {
	old, kept, gone := Change{Key: "k", Vector: []float32{1}}, Change{Key: "k", KeepVector: true, Position: 2}, Change{Key: "k", Delete: true}
	for name, test := range map[string]struct {
		changes []Change
		vector  int // values of the vector of what is left
		keep    bool
	}{
		"alone":            {[]Change{kept}, 0, true},
		"behind a vector":  {[]Change{old, kept}, 1, false},
		"twice":            {[]Change{old, kept, kept}, 1, false},
		"behind another":   {[]Change{kept, kept}, 0, true},
		"before a vector":  {[]Change{kept, old}, 1, false},
		"behind a removal": {[]Change{old, gone, kept}, 0, true},
	} {
		var batch []queued
		for _, c := range test.changes {
			batch = append(batch, queued{Change: c})
		}
		got := latest(batch)
		if len(got) != 1 || len(got[0].Vector) != test.vector || got[0].KeepVector != test.keep {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCheckpointFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "checkpoint")
	if at, err := ReadCheckpoint(name); at != 0 || err != nil {
		t.Errorf("without a file: %d, %v", at, err)
	}
	must(t, writeCheckpoint(name, 77))
	must(t, writeCheckpoint(name, 78))
	if at, err := ReadCheckpoint(name); at != 78 || err != nil {
		t.Errorf("%d, %v", at, err)
	}
	good, err := os.ReadFile(name)
	must(t, err)
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		must(t, os.WriteFile(name, bad, 0o644))
		if at, err := ReadCheckpoint(name); err == nil {
			t.Errorf("byte %d changed: read as %d", i, at)
		}
	}
	must(t, os.WriteFile(name, nil, 0o644))
	if _, err := ReadCheckpoint(name); err == nil {
		t.Error("an empty checkpoint is read")
	}
}

func TestWhatIsRefused(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "dead")
	for _, o := range []Options{{}, {DeadLetterFile: dead, BatchMax: -1}, {DeadLetterFile: dead, Workers: 65}, {DeadLetterFile: dead, PauseMin: time.Hour}, {DeadLetterFile: t.TempDir()}} {
		if _, err := New(newChecked(t, 1), o); err == nil {
			t.Errorf("%+v accepted", o)
		}
	}
}

// memory is a source that changes while it is scanned.
type memory struct {
	mu     sync.Mutex
	values map[string]uint64
}

func (m *memory) Scan(_ context.Context, visit func(Entry) error) error {
	m.mu.Lock()
	var all []Entry
	for key, value := range m.values {
		all = append(all, Entry{"c", key, value})
	}
	m.mu.Unlock()
	for _, e := range all {
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Read(_ context.Context, _, key string) (Change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[key]
	return Change{Delete: !ok, Payload: map[string]any{"v": value}}, nil
}

// TestResync: a target with missing, old and extra records equals the source
// afterwards, although changes go on.
func TestResync(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		target, source := newChecked(t, seed), &memory{values: map[string]uint64{}}
		target.fail = 0.2
		s := newSink(t, target, Options{Workers: 2, BatchMax: 7})
		for i := range 200 {
			key := fmt.Sprint(i)
			source.values[key] = rng.Uint64N(1 << 40)
			switch rng.IntN(4) {
			case 0: // missing
			case 1:
				target.state["c\x00"+key] = Change{Collection: "c", Key: key, Payload: map[string]any{"v": uint64(1)}}
			default:
				target.state["c\x00"+key] = Change{Collection: "c", Key: key, Payload: map[string]any{"v": source.values[key]}}
			}
		}
		target.state["c\x00extra"] = Change{Collection: "c", Key: "extra", Payload: map[string]any{"v": uint64(5)}}
		var live sync.WaitGroup
		live.Go(func() { changeLive(t, s, source, rng) })
		report, err := s.Resync(ctx, source, func(_ context.Context, visit func(Entry) error) error {
			target.mu.Lock()
			var all []Entry
			for _, c := range target.state {
				if !c.Delete {
					all = append(all, Entry{"c", c.Key, c.Payload["v"].(uint64)})
				}
			}
			target.mu.Unlock()
			for _, e := range all {
				must(t, visit(e))
			}
			return nil
		})
		must(t, err)
		live.Wait()
		must(t, s.Close(ctx))
		if report.Repaired+report.Overtaken != report.Missing+report.Different+report.Extra || report.Repaired == 0 {
			t.Errorf("%+v", report)
		}
		there := 0
		for _, c := range target.state {
			if !c.Delete {
				there++
				if c.Payload["v"] != source.values[c.Key] {
					t.Errorf("seed %d: %s is %v, want %v", seed, c.Key, c.Payload["v"], source.values[c.Key])
				}
			}
		}
		if there != len(source.values) {
			t.Errorf("seed %d: %d records, want %d", seed, there, len(source.values))
		}
	}
}

// changeLive changes the source and then tells the sink, as a real one does.
func changeLive(t *testing.T, s *Sink, source *memory, rng *rand.Rand) {
	for i := range 100 {
		key, value, deleted := fmt.Sprint(rng.IntN(220)), rng.Uint64N(1<<40), rng.IntN(6) == 0
		source.mu.Lock()
		if deleted {
			delete(source.values, key)
		} else {
			source.values[key] = value
		}
		source.mu.Unlock()
		if i%10 == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		if err := s.Put(ctx, Change{Position: 1, Collection: "c", Key: key, Delete: deleted, Payload: map[string]any{"v": value}}); err != nil {
			t.Error(err)
		}
	}
}

func FuzzReadDeadLetters(f *testing.F) {
	f.Add([]byte("{\"reason\":\"x\"}\n{"))
	f.Fuzz(func(t *testing.T, content []byte) {
		name := filepath.Join(t.TempDir(), "dead")
		must(t, os.WriteFile(name, content, 0o644))
		letters, err := ReadDeadLetters(name)
		if err == nil && len(letters) > len(content) {
			t.Fatal("more letters than bytes")
		}
	})
}
