package machine

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Mount is one line of /proc/self/mountinfo, proc_pid_mountinfo(5).
type Mount struct {
	Device  string // major:minor
	Root    string // of the filesystem, as mounted
	Point   string
	Options string
	Type    string // ext4, tmpfs, cgroup2, ...
	Source  string
	Super   string // options of the filesystem
}

// readMounts returns the mounts that the calling process sees, oldest first.
func readMounts(root fs.FS) ([]Mount, error) {
	text, err := readText(root, "proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return parseMounts(text)
}

func parseMounts(text string) ([]Mount, error) {
	var mounts []Mount
	for _, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		m, err := parseMount(line)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// parseMount splits at the lone "-": the optional fields before it vary in number.
func parseMount(line string) (Mount, error) {
	front, back, found := strings.Cut(line, " - ")
	left, right := strings.Fields(front), strings.Fields(back)
	if !found || len(left) < 6 || len(right) < 2 {
		return Mount{}, fmt.Errorf("mountinfo line %q: too few fields", line)
	}
	m := Mount{
		Device:  left[2],
		Root:    unescapeMount(left[3]),
		Point:   unescapeMount(left[4]),
		Options: left[5],
		Type:    right[0],
		Source:  unescapeMount(right[1]),
	}
	if len(right) > 2 {
		m.Super = right[2]
	}
	return m, nil
}

// unescapeMount undoes the kernel's octal escapes of space, tab, newline and
// backslash (mangle() in fs/proc_namespace.c).
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#").Replace(s)
}

// mountOf returns the mount that holds the absolute path name: the longest
// mount point above it, the newest of equals.
func mountOf(mounts []Mount, name string) (Mount, bool) {
	var best Mount
	found := false
	for _, m := range mounts {
		if isBelow(name, m.Point) && (!found || len(m.Point) >= len(best.Point)) {
			best, found = m, true
		}
	}
	return best, found
}

// mountOfType returns the last mount of a filesystem type.
func mountOfType(mounts []Mount, kind string) (Mount, bool) {
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].Type == kind {
			return mounts[i], true
		}
	}
	return Mount{}, false
}

// readOnly reports whether the mount refuses writes.
func (m Mount) readOnly() bool {
	for _, o := range strings.Split(m.Options+","+m.Super, ",") {
		if o == "ro" {
			return true
		}
	}
	return false
}

// isBelow reports whether name is folder or lies below it.
func isBelow(name, folder string) bool {
	name, folder = path.Clean(name), path.Clean(folder)
	return name == folder || folder == "/" || strings.HasPrefix(name, folder+"/")
}
