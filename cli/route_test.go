package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/rocksprobe"
)

func TestReadRoutes(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"none":          {"[]", ""},
		"two":           {`[{"table":"a","collection":"c","theta":0.5},{"table":"a","database":{"namespace":1,"database":0},"collection":"c"}]`, ""},
		"no JSON":       {"x", "decode"},
		"empty":         {"", "decode"},
		"unknown field": {`[{"table":"a","collection":"c","thta":0.5}]`, "thta"},
		"wrong":         {`[{"table":"a","collection":"c"},{"table":"b"}]`, "route 2"},
		"twice":         {`[{"table":"a","collection":"c"},{"table":"a","collection":"d"}]`, "twice"},
		"more":          {`[] []`, "follows"},
	} {
		_, err := readRoutes(strings.NewReader(c.text))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestRouteChanges(t *testing.T) {
	a := rocksprobe.Route{Table: "a", Collection: "c", Revision: 1}
	a2 := rocksprobe.Route{Table: "a", Collection: "d", Revision: 3}
	a1 := rocksprobe.Route{Table: "a", Collection: "c", Revision: 2, Database: &rocksprobe.DatabaseID{Namespace: 1}}
	for _, c := range []struct {
		before, after []rocksprobe.Route
		want          []routeChange
	}{
		{nil, nil, nil},
		{nil, []rocksprobe.Route{a, a1}, []routeChange{{"set", a}, {"set", a1}}},
		{[]rocksprobe.Route{a, a1}, []rocksprobe.Route{a2, a1}, []routeChange{{"set", a2}}},
		{[]rocksprobe.Route{a, a1}, []rocksprobe.Route{a}, []routeChange{{"delete", a1}}},
	} {
		if got := routeChanges(c.before, c.after); !reflect.DeepEqual(got, c.want) {
			t.Errorf("from %v to %v: %v, want %v", c.before, c.after, got, c.want)
		}
	}
}

// TestRouteCommands goes through the commands as a user does, on a pin of its own.
func TestRouteCommands(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("BPF maps need root")
	}
	mounted := t.TempDir()
	if err := unix.Mount("bpf", mounted, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mounted, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mounted, "routes")
	call := func(want int, args ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		if code := Main(append([]string{"route", "--dir", dir}, args...), &out, &errOut); code != want {
			t.Fatalf("route %v: exit code %d, want %d: %s", args, code, want, &errOut)
		}
		return out.String()
	}
	call(0, "set", "person", "--collection", "people", "--theta", "0.25")
	call(0, "set", "person", "--collection", "here", "--database", "1/0")
	if out := call(0, "list"); !strings.Contains(out, "people") || !strings.Contains(out, "1/0") || !strings.Contains(out, "0.25") {
		t.Errorf("listed %s", out)
	}
	exported := call(0, "export")
	var routes []rocksprobe.Route
	if err := json.Unmarshal([]byte(exported), &routes); err != nil || len(routes) != 2 {
		t.Fatalf("exported %s: %v", exported, err)
	}
	call(0, "delete", "person")
	call(exitUsage, "delete", "person")
	call(0, "set", "other", "--collection", "o")
	file := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	call(0, "import", file)
	if out := call(0, "list"); !strings.Contains(out, "other") || !strings.Contains(out, "people") {
		t.Errorf("after the import: %s", out)
	}
	call(0, "import", file, "--replace")
	first := call(0, "export")
	call(0, "import", file, "--replace")
	if again := call(0, "export"); again != first || strings.Contains(first, "other") {
		t.Errorf("imported twice: %s, then %s", first, again)
	}
	call(exitUsage, "set", "t")                                         // no collection
	call(exitUsage, "set", "t", "--collection", "c", "--database", "x") // no numbers
	call(exitUsage, "set", "t", "--collection", "c", "--theta", "3")    // no distance
	call(exitUsage, "import", "/nonexistent")                           // no file
	dir = filepath.Join(t.TempDir(), "x")                               // in no BPF file system
	call(exitEnvironment, "list")
}
