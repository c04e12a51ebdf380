package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/nexuscore-labs/nexus"

// imports says which top-level folders each top-level folder may import,
// besides itself. docs/ARCHITECTURE.md draws the same picture.
var imports = map[string][]string{
	"":           {"cli"},
	"cli":        {"bpf", "components", "frame", "labs", "loadgen", "machine", "reports", "scenarios", "systems", "uring", "vagrant"},
	"labs":       {"bpf", "components", "frame", "loadgen", "machine", "reports", "scenarios", "systems", "uring", "vagrant"},
	"scenarios":  {"bpf", "frame", "loadgen", "machine", "reports"},
	"systems":    {"bpf", "components", "frame", "uring"},
	"loadgen":    {"frame", "uring"},
	"machine":    {"uring"},
	"vagrant":    {"bpf", "machine"},
	"components": {},
	"reports":    {},
	"bpf":        {},
	"uring":      {},
	"frame":      {},
}

// dataPath are the BPF programs that serve, and measure nothing: parts of systems;
// and the network that their tests need.
var dataPath = []string{"bpf/projcache", "bpf/rocksprobe", "bpf/tenantroute", "bpf/xsk", "bpf/datagram", "bpf/netbed"}

// leaves know nothing of the project, so every test may use them.
var leaves = []string{"frame", "uring"}

// saysNothing are package names that tell a reader nothing.
var saysNothing = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "base", "shared"}

func TestImportRules(t *testing.T) {
	seen := 0
	walkGo(t, func(path string) {
		top := topFolder(path)
		allowed, known := imports[top]
		if !known {
			t.Errorf("%s: folder %q is not in the import rules", path, top)
			return
		}
		for _, imported := range importsOf(t, path) {
			inside, ours := strings.CutPrefix(imported, modulePath+"/")
			if !ours {
				continue
			}
			seen++
			target := strings.SplitN(inside, "/", 2)[0]
			if strings.HasSuffix(path, "_test.go") && slices.Contains(leaves, target) {
				continue // a known workload may be made with them
			}
			if top == "systems" && target == "bpf" && !slices.Contains(dataPath, inside) {
				t.Errorf("%s imports %s: of bpf, systems may only import %v", path, inside, dataPath)
			}
			if target != top && !slices.Contains(allowed, target) {
				t.Errorf("%s imports %s: %s may only import %v", path, inside, top, allowed)
			}
			if top == "labs" && target == "labs" && path != filepath.Join("labs", "labs.go") && !sameLab(path, inside) {
				t.Errorf("%s imports %s: labs never import labs; move what both need under a noun in systems, bpf or components", path, inside)
			}
		}
	})
	if seen == 0 {
		t.Fatal("no import of the project's own packages was seen: this test looked at nothing")
	}
}

func TestOnlyUringImportsGiouring(t *testing.T) {
	walkGo(t, func(path string) {
		for _, imported := range importsOf(t, path) {
			if strings.HasPrefix(imported, "github.com/pawelgaczynski/giouring") && topFolder(path) != "uring" {
				t.Errorf("%s imports giouring; only uring may", path)
			}
		}
	})
}

func TestPackageNamesSaySomething(t *testing.T) {
	walkGo(t, func(path string) {
		for _, part := range strings.Split(filepath.Dir(path), string(filepath.Separator)) {
			if slices.Contains(saysNothing, part) {
				t.Errorf("%s: %q says nothing about what is in it", path, part)
			}
		}
	})
}

func walkGo(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "runs" || entry.Name() == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func importsOf(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, spec := range file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, name)
	}
	return out
}

func topFolder(path string) string {
	first, _, nested := strings.Cut(path, string(filepath.Separator))
	if !nested {
		return ""
	}
	return first
}

// sameLab reports whether a file and an imported package are of one lab.
func sameLab(path, imported string) bool {
	lab := strings.Split(filepath.ToSlash(path), "/")[1]
	return imported == "labs/"+lab || strings.HasPrefix(imported, "labs/"+lab+"/")
}
