package machine

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
	"strconv"
	"strings"
)

// hostRoot is the real machine; tests put a fixture tree in its place.
func hostRoot() fs.FS { return os.DirFS("/") }

// procFileBytesMax bounds what is read of one file of /proc or /sys. The
// largest that matters, /proc/stat with 512 CPUs and its interrupt line, stays
// well below.
const procFileBytesMax = 4 << 20

// cpusMax is the highest CPU number that a list is believed to hold.
const cpusMax = 1 << 16

func readBounded(root fs.FS, name string, bytesMax int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, bytesMax))
}

func readText(root fs.FS, name string) (string, error) {
	data, err := readBounded(root, name, procFileBytesMax)
	return string(data), err
}

// readLine returns the whole file without surrounding white space.
func readLine(root fs.FS, name string) (string, error) {
	text, err := readText(root, name)
	return strings.TrimSpace(text), err
}

// lineOr is readLine with a default for what cannot be read or is empty.
func lineOr(root fs.FS, name, missing string) string {
	line, err := readLine(root, name)
	if err != nil || line == "" {
		return missing
	}
	return line
}

func readInt(root fs.FS, name string) (int64, error) {
	line, err := readLine(root, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/%s: %w", name, err)
	}
	return n, nil
}

func exists(root fs.FS, name string) bool {
	_, err := fs.Stat(root, name)
	return err == nil
}

// parseCPUs reads the kernel's list format, such as "0-3,8,10-11", cpuset(7).
func parseCPUs(list string) ([]int, error) {
	list = strings.TrimSpace(list)
	if list == "" {
		return nil, nil
	}
	seen := map[int]bool{}
	for _, part := range strings.Split(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		lo, err := strconv.Atoi(first)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %w", list, err)
		}
		hi := lo
		if isRange {
			if hi, err = strconv.Atoi(last); err != nil {
				return nil, fmt.Errorf("CPU list %q: %w", list, err)
			}
		}
		if lo < 0 || hi < lo || hi >= cpusMax {
			return nil, fmt.Errorf("CPU list %q: %q is no range below %d", list, part, cpusMax)
		}
		for c := lo; c <= hi; c++ {
			seen[c] = true
		}
	}
	cpus := make([]int, 0, len(seen))
	for c := range seen {
		cpus = append(cpus, c)
	}
	sort.Ints(cpus)
	return cpus, nil
}

// formatCPUs is the inverse of parseCPUs.
func formatCPUs(cpus []int) string {
	var b strings.Builder
	for i := 0; i < len(cpus); {
		j := i
		for j+1 < len(cpus) && cpus[j+1] == cpus[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(cpus[i]))
		if j > i {
			b.WriteString("-" + strconv.Itoa(cpus[j]))
		}
		i = j + 1
	}
	return b.String()
}

// formatBytes writes a size with a binary unit and one decimal.
func formatBytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
