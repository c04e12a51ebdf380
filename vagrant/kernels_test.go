package vagrant

import (
	"errors"
	"strings"
	"testing"
)

func TestKernels(t *testing.T) {
	kernels, err := Kernels()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"5.15", "6.1", "6.6", "6.12"} {
		if _, err := ByName(want); err != nil {
			t.Error(err)
		}
	}
	inMatrix := 0
	for _, k := range kernels {
		if k.Matrix {
			inMatrix++
		}
	}
	if inMatrix < 2 {
		t.Errorf("%d kernels are in the matrix", inMatrix)
	}
	var unknown *UnknownKernelError
	if _, err := ByName("2.4"); !errors.As(err, &unknown) || unknown.ExitCode() != 3 || !strings.Contains(err.Error(), "6.12") {
		t.Errorf("an unknown kernel: %v", err)
	}
}

func TestComplaintsAboutTheMatrix(t *testing.T) {
	good := `{name: "1.0", machine: k10, box: b, package: p, memory_mib: 1024, cpus: 1, matrix: true, enables: e}`
	if _, err := parse([]byte("kernels:\n  - " + good)); err != nil {
		t.Fatal(err)
	}
	for change, complaint := range map[string]string{
		"package: p, >":                   "needs a package",
		"cpus: 1>cpus: 0":                 "cpus 0",
		"1024>12":                         "memory_mib 12",
		"box: b, >":                       "must be given",
		"enables: e>enabls: e":            "enabls",
		"cpus: 1>cpus: 1, box_archive: a": "box_archive without",
	} {
		from, to, _ := strings.Cut(change, ">")
		if _, err := parse([]byte("kernels:\n  - " + strings.Replace(good, from, to, 1))); err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%s: %v", change, err)
		}
	}
	if _, err := parse([]byte("kernels:\n  - " + good + "\n  - " + good)); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a kernel twice: %v", err)
	}
	if _, err := parse([]byte("kernels: []")); err == nil {
		t.Error("an empty matrix was accepted")
	}
}
