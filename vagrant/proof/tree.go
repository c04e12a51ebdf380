// Package proof loads and attaches every BPF program of the tree on a kernel, by
// the tests that lie beside it: known workloads with exact counts, each rung of
// the attach ladder forced in turn. It keeps what passed and what the verifier
// counted, so that neither gets worse unseen.
package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/nexuscore-labs/nexus/vagrant/qemu"
)

// Package is a folder below bpf/.
type Package struct {
	Name     string // path below bpf/
	Programs []Program
}

// Program is one BPF program of a compiled object.
type Program struct {
	Name    string
	Section string
}

// Rung names the way of attaching that the program's section asks for, in the
// words of the attach ladder.
func (p Program) Rung() string {
	kind, _, _ := strings.Cut(p.Section, "/")
	switch kind {
	case "raw_tp", "raw_tracepoint":
		return "raw_tracepoint"
	case "tp":
		return "tracepoint"
	}
	return kind
}

// modulePath is what go.mod of the tree must say.
const modulePath = "module github.com/nexuscore-labs/nexus\n"

// ErrNoTree says that the project's folder is needed.
var ErrNoTree = errors.New("this needs the project's folder with its source: run it there")

// FindTree goes up from dir to the project's folder.
func FindTree(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the project's folder: %w", err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), modulePath) {
			return dir, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", ErrNoTree
		}
		dir = above
	}
}

// Packages finds every folder below bpf/ that has BPF programs or tests, and the
// programs.
func Packages(tree string) ([]Package, error) {
	byName := map[string]*Package{}
	root := filepath.Join(tree, "bpf")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		isTest := strings.HasSuffix(path, "_test.go")
		if err != nil || entry.IsDir() || !isTest && !ofThisMachine(entry.Name()) {
			return err
		}
		var programs []Program
		if !isTest {
			if programs, err = objectPrograms(path); err != nil {
				return err
			}
		}
		name, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil || name == "." { // the suite of all probes proves no program more
			return err
		}
		if byName[name] == nil {
			byName[name] = &Package{Name: name}
		}
		byName[name].Programs = append(byName[name].Programs, programs...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for BPF programs: %w", err)
	}
	var packages []Package
	for _, p := range byName {
		slices.SortFunc(p.Programs, func(a, b Program) int { return strings.Compare(a.Name, b.Name) })
		packages = append(packages, *p)
	}
	slices.SortFunc(packages, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	if len(packages) == 0 {
		return nil, fmt.Errorf("no BPF objects below %s", root)
	}
	return packages, nil
}

// ofThisMachine picks the objects that bpf2go made for this architecture.
func ofThisMachine(file string) bool {
	stem, found := strings.CutSuffix(file, "_bpfel.o")
	if !found {
		stem, found = strings.CutSuffix(file, "_bpfel_test.o") // programs that only a test loads
	}
	if !found {
		return false
	}
	mine := map[string]string{"amd64": "_x86", "arm64": "_arm64"}[runtime.GOARCH]
	for _, arch := range []string{"_x86", "_arm64"} {
		if strings.HasSuffix(stem, arch) {
			return arch == mine
		}
	}
	return true
}

func objectPrograms(path string) ([]Program, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	var programs []Program
	for name, p := range spec.Programs {
		programs = append(programs, Program{Name: name, Section: p.SectionName})
	}
	return programs, nil
}

// Binary is the compiled test of a package.
func Binary(dir string, p Package) string {
	return filepath.Join(dir, "bpf-"+strings.ReplaceAll(p.Name, string(filepath.Separator), "-")+".test")
}

// Compile builds the tests of the packages into dir. Debugging information stays
// out: the machine keeps all of it in memory.
func Compile(ctx context.Context, tree, dir string, packages []Package) error {
	if _, err := exec.LookPath("go"); err != nil {
		return &qemu.LackError{What: "the tests are compiled with Go, which is not on PATH", Err: err, Fix: "https://go.dev/doc/install"}
	}
	for _, p := range packages {
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-buildvcs=false", "-ldflags=-checklinkname=0 -s -w", "-o", Binary(dir, p), "./bpf/"+filepath.ToSlash(p.Name))
		cmd.Dir = tree
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("compile the tests of bpf/%s: %w: %s", p.Name, err, bytes.TrimSpace(out))
		}
	}
	return nil
}
