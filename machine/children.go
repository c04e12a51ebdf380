package machine

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// childPattern matches the files by which a run records its children in its
// temporary folder, so that they are found where no cgroup holds them.
const childPattern = ".nexus-child-*.json"

// childrenMax bounds how many recorded children of one run are looked at.
const childrenMax = 1000

// RecordChild notes in the run's temporary folder dir that the running process
// pid is its child. Clean ends it when the run is dead and the child, known by
// its start time, is not.
func RecordChild(dir string, pid int) error {
	child, err := OwnerOf(pid)
	if err != nil {
		return fmt.Errorf("record child %d: %w", pid, err)
	}
	data, err := json.Marshal(child)
	if err != nil {
		return fmt.Errorf("record child %d: %w", pid, err)
	}
	name := filepath.Join(dir, fmt.Sprintf(".nexus-child-%d.json", pid))
	if err := os.WriteFile(name, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("record child %d: %w", pid, err)
	}
	return nil
}

// readChildren returns the children that are recorded in dir; a half-written
// record names nobody.
func readChildren(dir string) []Owner {
	names, err := filepath.Glob(filepath.Join(escapeGlob(dir), childPattern))
	if err != nil {
		return nil
	}
	var children []Owner
	for _, name := range names[:min(len(names), childrenMax)] {
		child, err := readOwner(os.DirFS(dir), filepath.Base(name))
		if err == nil {
			children = append(children, child)
		}
	}
	return children
}

// escapeGlob makes a path match itself only.
func escapeGlob(name string) string {
	var escaped []rune
	for _, r := range name {
		switch r {
		case '*', '?', '[', '\\':
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, r)
	}
	return string(escaped)
}
