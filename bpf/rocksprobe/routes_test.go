package rocksprobe

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openRoutes(t *testing.T, dir string) *Routes {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("BPF maps need root")
	}
	r, err := OpenRoutes(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func set(t testing.TB, r *Routes, route Route) Route {
	t.Helper()
	out, err := r.Set(route)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRoutes(t *testing.T) {
	r := openRoutes(t, "")
	if routes, err := r.List(); err != nil || len(routes) != 0 {
		t.Fatalf("a new table: %v, %v", routes, err)
	}
	first := set(t, r, Route{Table: "person", Collection: "people", Theta: 0.02})
	one := set(t, r, Route{Table: "person", Database: &DatabaseID{1, 0}, Collection: "people1", Theta: 0.5, Endpoint: "http://127.0.0.1:1/embed"})
	second := set(t, r, Route{Table: "person", Collection: "people2", Theta: 0.1})
	if first.Revision >= one.Revision || one.Revision >= second.Revision {
		t.Errorf("revisions %d, %d, %d", first.Revision, one.Revision, second.Revision)
	}
	routes, err := r.List()
	if want := []Route{one, second}; err != nil || !reflect.DeepEqual(routes, want) {
		t.Errorf("listed %+v, %v, want %+v", routes, err, want)
	}
	if old, err := r.Lookup(first.Revision); err != nil || !reflect.DeepEqual(old, first) {
		t.Errorf("a replaced revision: %+v, %v", old, err)
	}
	if _, err := r.Lookup(99); !errors.Is(err, ErrNoRoute) {
		t.Errorf("a revision that never was: %v", err)
	}
	if err := r.Delete(Route{Table: "person"}); err != nil {
		t.Error(err)
	}
	if err := r.Delete(Route{Table: "person"}); !errors.Is(err, ErrNoRoute) {
		t.Errorf("deleted twice: %v", err)
	}
	if routes, err := r.List(); err != nil || len(routes) != 1 {
		t.Errorf("after the delete: %+v, %v", routes, err)
	}
}

func TestRouteCheck(t *testing.T) {
	r := openRoutes(t, "")
	good := Route{Table: "t", Collection: "c"}
	for name, change := range map[string]func(*Route){
		"no table": func(r *Route) { r.Table = "" }, "long table": func(r *Route) { r.Table = strings.Repeat("t", TableLenMax+1) },
		"no collection": func(r *Route) { r.Collection = "" }, "long collection": func(r *Route) { r.Collection = strings.Repeat("c", 128) },
		"long endpoint": func(r *Route) { r.Endpoint = strings.Repeat("e", 256) }, "zero byte": func(r *Route) { r.Table = "a\x00b" },
		"negative theta": func(r *Route) { r.Theta = -0.1 }, "large theta": func(r *Route) { r.Theta = 2.1 },
		"theta that is none": func(r *Route) { r.Theta = float32(math.NaN()) },
		"reserved number":    func(r *Route) { r.Database = &DatabaseID{math.MaxUint32, 0} },
	} {
		route := good
		change(&route)
		if _, err := r.Set(route); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if routes, err := r.List(); err != nil || len(routes) != 0 {
		t.Errorf("refused routes are in the table: %v, %v", routes, err)
	}
}

// TestRoutesForget sets one route more often than revisions are kept.
func TestRoutesForget(t *testing.T) {
	r := openRoutes(t, "")
	r.textsMax = 8
	kept := set(t, r, Route{Table: "kept", Collection: "k"})
	var last Route
	for i := range 20 {
		last = set(t, r, Route{Table: "t", Collection: fmt.Sprint("c", i)})
	}
	for _, want := range []Route{kept, last} {
		if got, err := r.Lookup(want.Revision); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("in force and forgotten: %+v, %v", got, err)
		}
	}
	if _, err := r.Lookup(kept.Revision + 1); !errors.Is(err, ErrNoRoute) {
		t.Errorf("the oldest that is not in force is still there: %v", err)
	}
	if texts, err := r.all(); err != nil || len(texts) != 8 {
		t.Errorf("%d revisions are kept: %v", len(texts), err)
	}
}

// bpfFolder is a folder in a BPF file system of the test's own.
func bpfFolder(t *testing.T) string {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "nexuscore")
}

func TestRoutesArePinned(t *testing.T) {
	dir := bpfFolder(t)
	r, err := OpenRoutes(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := set(t, r, Route{Table: "person", Collection: "people", Theta: 0.25})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := openRoutes(t, dir)
	if routes, err := again.List(); err != nil || len(routes) != 1 || !reflect.DeepEqual(routes[0], want) {
		t.Errorf("after closing all: %+v, %v", routes, err)
	}
	if next := set(t, again, Route{Table: "other", Collection: "o"}); next.Revision <= want.Revision {
		t.Errorf("a revision was given twice: %d", next.Revision)
	}
	if err := again.Remove(); err != nil {
		t.Error(err)
	}
	if fresh := openRoutes(t, dir); fresh != nil {
		if routes, err := fresh.List(); err != nil || len(routes) != 0 {
			t.Errorf("after removing: %+v, %v", routes, err)
		}
	}
}

func TestRoutesNeedBPFFileSystem(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("BPF maps need root")
	}
	dir := filepath.Join(t.TempDir(), "routes")
	if _, err := OpenRoutes(dir); err == nil || !strings.Contains(err.Error(), "mount -t bpf") {
		t.Errorf("a folder on disk: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left its folder: %v", err)
	}
}

// TestRoutesHammer sets and deletes from several goroutines and two openings of
// one pinned table: no revision may be given twice, and no reader may see half.
func TestRoutesHammer(t *testing.T) {
	dir := bpfFolder(t)
	tables := []*Routes{openRoutes(t, dir), openRoutes(t, dir)}
	var mu sync.Mutex
	revisions := map[uint32]bool{}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r := tables[i%2]
			for j := range 40 {
				name := fmt.Sprint("t", j%3)
				route, err := r.Set(Route{Table: name, Collection: name, Theta: float32(j%3) / 4})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if revisions[route.Revision] {
					t.Errorf("revision %d was given twice", route.Revision)
				}
				revisions[route.Revision] = true
				mu.Unlock()
				listed, err := r.List()
				if err != nil {
					t.Error(err)
				}
				for _, l := range listed {
					if l.Table != l.Collection || l.Theta != float32(l.Table[1]-'0')/4 {
						t.Errorf("half a route: %+v", l)
					}
				}
			}
		})
	}
	wg.Wait()
}

// The kernel follows the table of the writer's keys: what has no route is not
// published, one database goes before any, and a change of route shows at once.
func TestKernelRoutes(t *testing.T) {
	needRocksDB(t)
	r := openRoutes(t, "")
	w := startWriter(t, t.TempDir())
	p := openRouted(t, w, r)
	w.do("table person 5 10")
	w.do("put 3 10") // no table at all
	if changes := drain(t, p); len(changes) != 0 {
		t.Errorf("%d changes without a route", len(changes))
	}
	general := set(t, r, Route{Table: "person", Collection: "people", Theta: 0.25})
	w.do("table person 5 10")
	w.do("table persons 5 10")
	of(t, drain(t, p), 5, general)
	other := set(t, r, Route{Table: "person", Database: &DatabaseID{1, 3}, Collection: "elsewhere"})
	exact := set(t, r, Route{Table: "person", Database: &DatabaseID{1, 2}, Collection: "here", Theta: 0.5})
	if other.Revision == exact.Revision {
		t.Error("two databases share a revision")
	}
	w.do("table person 7 10")
	of(t, drain(t, p), 7, exact)
	if err := r.Delete(exact); err != nil {
		t.Fatal(err)
	}
	w.do("table person 2 10")
	of(t, drain(t, p), 2, general)
	if err := r.Delete(general); err != nil {
		t.Fatal(err)
	}
	w.do("table person 2 10")
	of(t, drain(t, p), 0, general)
	long := set(t, r, Route{Table: strings.Repeat("n", TableLenMax), Collection: "long"})
	w.do("table %s 2 10", long.Table)
	w.do("table %sx 2 10", long.Table)
	of(t, drain(t, p), 2, long)
	got := counters(t, p)
	if want := uint64(5 + 3 + 5 + 2 + 2); got.Unrouted != want || got.Lost() != 0 {
		t.Errorf("%d without a route, want %d: %+v", got.Unrouted, want, got)
	}
}

// openRouted opens Debian's RocksDB as if its keys were SurrealDB's, which those
// of the writer's command table are.
func openRouted(t testing.TB, w *writer, r *Routes) *Probe {
	t.Helper()
	at, err := Resolve(rocksdbLibrary)
	if errors.Is(err, ErrUnknownBuild) {
		t.Skipf("another build of RocksDB: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	at.Layout.SurrealKeys = true
	p, err := Open(at, Options{Process: w.cmd.Process.Pid, Routes: r, Types: types, RingBytes: 64 << 20, WakeupBytes: WakeupBytesNormal})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func of(t *testing.T, changes []Change, n int, route Route) {
	t.Helper()
	if len(changes) != n {
		t.Errorf("%d changes, want %d of %+v", len(changes), n, route)
	}
	for _, c := range changes {
		if c.Route != route.Revision || c.Theta != route.Theta {
			t.Errorf("change by route %d with theta %v, want %+v", c.Route, c.Theta, route)
		}
	}
}

// TestRouteUpdatesLoseNothing changes routes while the writer writes, reloads the
// probe's routes from the pin, and accounts for every change.
func TestRouteUpdatesLoseNothing(t *testing.T) {
	needRocksDB(t)
	r := openRoutes(t, bpfFolder(t))
	for i := range 8 {
		set(t, r, Route{Table: fmt.Sprint("t", i), Collection: "c"})
	}
	w := startWriter(t, t.TempDir())
	p := openRouted(t, w, r)
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		updates := 0
		for {
			select {
			case <-stop:
				stopped <- updates
				return
			case <-time.After(time.Millisecond):
				if _, err := r.Set(Route{Table: fmt.Sprint("t", updates%8), Collection: "c", Theta: float32(updates%10) / 10}); err != nil {
					t.Error(err)
				}
				updates++
			}
		}
	}()
	read := make(chan []Change)
	go func() { read <- drainFor(t, p, 500*time.Millisecond) }()
	const rate = 20000
	w.do("rate 1 %d 64", rate)
	close(stop)
	updates, changes := <-stopped, <-read
	got := counters(t, p)
	if len(changes) != rate || got.Lost() != 0 || got.Unrouted != 0 || p.Missing() != 0 {
		t.Errorf("read %d of %d during %d updates: %+v", len(changes), rate, updates, got)
	}
	if updates == 0 {
		t.Error("no update was made")
	}
	latest := map[string]uint32{}
	for _, c := range changes { // one writer thread: in order
		table := string(c.Key[12:14])
		if c.Route < latest[table] {
			t.Errorf("table %s went back from route %d to %d", table, latest[table], c.Route)
		}
		latest[table] = c.Route
	}
}

// drainFor reads until nothing came for a while; it needs no test's goroutine.
func drainFor(t testing.TB, p *Probe, quiet time.Duration) []Change {
	var all []Change
	for {
		var c Change
		err := p.Read(&c, time.Now().Add(quiet))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			t.Error(err)
			return all
		}
		c.Key, c.Value = append([]byte(nil), c.Key...), nil
		all = append(all, c)
	}
}
