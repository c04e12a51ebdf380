package qemu

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	consoleName     = "console"
	consoleLenMax   = 1 << 20 // of what is looked at, from the end
	consoleTailMax  = 12      // lines
	consolesKeptMax = 10
)

// console is what a machine's kernel wrote, as lines.
type console []string

var escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]|\x1bc|[\x00-\x08\x0b-\x1a\x1c-\x1f]`)

func readConsole(path string) console {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > consoleLenMax {
		_, _ = file.Seek(-consoleLenMax, io.SeekEnd) // else it is read from the start
	}
	text, _ := io.ReadAll(io.LimitReader(file, consoleLenMax))
	return parseConsole(string(text))
}

func parseConsole(text string) console {
	var lines console
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(escapes.ReplaceAllString(line, "")); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func (c console) tail() []string { return c[max(0, len(c)-consoleTailMax):] }

func (c console) find(mark string) string {
	for _, line := range c {
		if strings.Contains(line, mark) {
			return line
		}
	}
	return ""
}

func (c console) panic() string { return c.find("Kernel panic") }

// outOfMemory tells a panic for want of memory; that a process was killed for it
// is in the exits.
func (c console) outOfMemory() bool {
	return strings.Contains(c.panic(), "memory") || c.find("Initramfs unpacking failed: write error") != ""
}

// keepConsole copies the console, and QEMU's own complaints, to where they
// survive the machine, and forgets the oldest of such copies.
func keepConsole(kernel, work string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(cache), "consoles")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("keep the console: %w", err)
	}
	text, _ := os.ReadFile(filepath.Join(work, consoleName))
	complaints, _ := os.ReadFile(filepath.Join(work, "qemu.log"))
	name := filepath.Join(dir, fmt.Sprintf("%s-%s-%d.log", kernel, time.Now().UTC().Format("20060102T150405.000"), os.Getpid()))
	if err := os.WriteFile(name, append(text, complaints...), 0o644); err != nil {
		return "", fmt.Errorf("keep the console: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return name, nil
	}
	slices.SortFunc(old, byTime)
	for _, path := range old[:max(0, len(old)-consolesKeptMax)] {
		_ = os.Remove(path) // another call may have been faster
	}
	return name, nil
}
