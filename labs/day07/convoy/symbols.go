package convoy

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// inodeLock is the function that the lesson attaches a kprobe to.
const inodeLock = "inode_lock"

// writeIter ends the name of the function that writes a file of one type of file
// system: ext4_file_write_iter.
const writeIter = "_file_write_iter"

// relatedSymbols are what a probe could hold on to instead: functions that an
// append passes on its way to the inode lock, each type of file system by its own.
var relatedSymbols = []string{
	"vfs_write", "down_write",
	"ext4" + writeIter, "xfs" + writeIter, "btrfs" + writeIter,
}

// registerKprobe is built only with CONFIG_KPROBES.
const registerKprobe = "register_kprobe"

// Symbol is a line of /proc/kallsyms without its address.
type Symbol struct {
	Name   string
	Type   byte   // as in nm(1): T and t are code
	Module string // "" for the kernel itself
}

// InodeLockSymbolResult says what the running kernel has to probe.
type InodeLockSymbolResult struct {
	Exact    []Symbol // named inode_lock
	Variants []Symbol // inode_lock.constprop.0 and the like: clones that the compiler made
	Related  []Symbol // functions that an append passes, on one type of file system or another
	Kprobes  bool     // the kernel has register_kprobe
	Symbols  int      // how many were looked at
}

// InodeLockSymbol looks through /proc/kallsyms. kptr_restrict hides addresses
// there, not names.
func InodeLockSymbol() (InodeLockSymbolResult, error) {
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		return InodeLockSymbolResult{}, notMeasurable(fmt.Errorf("read the kernel's symbols: %w", err))
	}
	defer file.Close()
	result, err := symbols(file)
	if err != nil {
		return result, fmt.Errorf("read the kernel's symbols: %w", err)
	}
	if result.Symbols == 0 {
		return result, notMeasurable(fmt.Errorf("/proc/kallsyms is empty"))
	}
	return result, nil
}

// symbols reads lines of address, type, name and, of modules, [module].
func symbols(r io.Reader) (InodeLockSymbolResult, error) {
	var result InodeLockSymbolResult
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || len(fields[1]) != 1 {
			continue
		}
		result.Symbols++
		symbol := Symbol{Name: fields[2], Type: fields[1][0]}
		if len(fields) > 3 {
			symbol.Module = strings.Trim(fields[3], "[]")
		}
		result.add(symbol)
	}
	return result, lines.Err()
}

func (r *InodeLockSymbolResult) add(s Symbol) {
	switch {
	case s.Name == inodeLock && (s.Type == 'T' || s.Type == 't'):
		r.Exact = append(r.Exact, s)
	case strings.HasPrefix(s.Name, inodeLock+"."):
		r.Variants = append(r.Variants, s)
	case slices.Contains(relatedSymbols, s.Name) && (s.Type == 'T' || s.Type == 't'):
		r.Related = append(r.Related, s)
	}
	if s.Name == registerKprobe {
		r.Kprobes = true
	}
}

// OnPath names the symbols that an append to that type of file system passes.
func (r InodeLockSymbolResult) OnPath(filesystem string) []string {
	var names []string
	for _, s := range r.Related {
		of, typed := strings.CutSuffix(s.Name, writeIter)
		if (!typed || of == filesystem) && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}
