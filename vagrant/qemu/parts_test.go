package qemu

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/vagrant"
)

// readArchive is the dumb reader: header, name, data, each padded to 4.
func readArchive(t *testing.T, text []byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	for at := 0; ; {
		header := string(text[at : at+110])
		field := func(i int) int {
			n, err := strconv.ParseUint(header[6+8*i:14+8*i], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		if header[:6] != "070701" {
			t.Fatalf("magic %q at %d", header[:6], at)
		}
		mode, size, nameLen := field(1), field(6), field(11)
		name := string(text[at+110 : at+110+nameLen-1])
		if name == "TRAILER!!!" {
			return files
		}
		at += (110 + nameLen + 3) / 4 * 4
		if _, twice := files[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		files[name] = fmt.Sprintf("%o %s", mode, text[at:at+size])
		at += (size + 3) / 4 * 4
	}
}

func TestArchive(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(source, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := newArchive(&out)
	for _, err := range []error{a.bytes("/a/b/one", []byte("x")), a.bytes("a/b/empty", nil), a.copy("/a/copy", source), a.device("/dev/console", 5, 1), a.folder("/a/b"), a.close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"a": "40755 ", "a/b": "40755 ", "a/b/one": "100755 x", "a/b/empty": "100755 ", "a/copy": "100755 12345", "dev": "40755 ", "dev/console": "20600 "}
	got := readArchive(t, out.Bytes())
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s is %q, want %q", name, got[name], text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	if err := newArchive(&out).copy("x", filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("an absent file was copied")
	}
}

// Of a real kernel, every module comes behind those that it needs.
func TestModulesInOrder(t *testing.T) {
	entry, err := vagrant.ByName("6.1")
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := Fetch(t.Context(), entry, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	modules, err := modulesInOrder(kernel.Modules, wantedModules)
	if err != nil {
		t.Fatal(err)
	}
	builtin, err := builtinModules(kernel.Modules)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range modules {
		depends, err := dependencies(m.data)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range depends {
			if !slices.Contains(names, canonical(d)) && !builtin[canonical(d)] {
				t.Errorf("%s comes before %s, which it needs", m.name, d)
			}
		}
		names = append(names, m.name)
	}
	for _, wanted := range wantedModules {
		if !slices.Contains(names, wanted) && !builtin[wanted] {
			t.Errorf("%s is not there", wanted)
		}
	}
	if _, err := modulesInOrder(kernel.Modules, []string{"no_such_module"}); err == nil || !strings.Contains(err.Error(), "no_such_module") {
		t.Errorf("an unknown module: %v", err)
	}
}

func TestLibraries(t *testing.T) {
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	files, err := libraries(shell)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	if len(files) != 0 && !slices.ContainsFunc(files, func(f string) bool { return strings.Contains(f, "ld-") }) {
		t.Errorf("no dynamic linker in %v", files)
	}
	if _, err := libraries("/etc/passwd"); err == nil {
		t.Error("a text was taken for a program")
	}
}

func TestConsole(t *testing.T) {
	c := parseConsole("\x1bc\x1b[?7l[    1.0] one\r\n\r\n[    2.0] Kernel panic - not syncing: sysrq triggered crash\r\n")
	if len(c) != 2 || c[0] != "[    1.0] one" || !strings.Contains(c.panic(), "sysrq") || c.outOfMemory() {
		t.Errorf("lines %q", c)
	}
	if !parseConsole("Kernel panic - not syncing: System is deadlocked on memory\n").outOfMemory() {
		t.Error("a deadlock on memory is not seen")
	}
	if c := parseConsole(strings.Repeat("line\n", 100)); len(c.tail()) != consoleTailMax {
		t.Errorf("%d lines in the tail", len(c.tail()))
	}
}

// What a machine sends must not leave the folder that is meant for it.
func TestExtractStaysInside(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	inside := filepath.Join(dir, "inside")
	if err := extract(bytes.NewReader(tarOf(t, "../outside", "escaped")), inside); err == nil {
		t.Error("a path that leads out was accepted")
	}
	if _, err := os.Stat(outside); !os.IsNotExist(err) {
		t.Errorf("it was written: %v", err)
	}
	if err := extract(bytes.NewReader(tarOf(t, "a/b", "text")), inside); err != nil {
		t.Fatal(err)
	}
	if text, err := fs.ReadFile(os.DirFS(inside), "a/b"); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

func tarOf(t *testing.T, name, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A program without its debugging information must still run: this test's own
// binary lists its tests.
func TestLoadedPartRuns(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	part, err := openLoadedPart(self)
	if err != nil {
		t.Fatal(err)
	}
	defer part.close()
	whole, err := os.Stat(self)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(part.content())
	if err != nil || int64(len(text)) != part.size || part.size > whole.Size() {
		t.Fatalf("%d bytes of %d, said %d: %v", len(text), whole.Size(), part.size, err)
	}
	small := filepath.Join(t.TempDir(), "small.test")
	if err := os.WriteFile(small, text, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(small, "-test.list", ".").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "TestLoadedPartRuns") {
		t.Errorf("it says %q: %v", out, err)
	}
	if _, err := openLoadedPart("/etc/passwd"); err == nil {
		t.Error("a text was taken for a program")
	}
}
