package machine

import (
	"context"
	"io/fs"
	"os/exec"
	"path"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"
)

// Purpose says what a tool or package is for; Setup installs by purpose.
type Purpose string

const (
	// ForRun is what a lab's contenders or comparisons need at run time.
	ForRun Purpose = "run"
	// ForGenerate rebuilds the committed BPF, Wasm and Go code.
	ForGenerate Purpose = "generate"
	// ForCalibrate is what the load generator is compared with.
	ForCalibrate Purpose = "calibrate"
	// ForReports looks at reports in a real browser.
	ForReports Purpose = "reports"
	// ForVM boots other kernels.
	ForVM Purpose = "vm"
	// ForCDC is the source of Day 20, and the RocksDB that its probe is tested on.
	ForCDC Purpose = "cdc"
	// ForVagrant starts the Vagrant machines.
	ForVagrant Purpose = "vagrant"
)

// Tool is a program that the project can use, and the package that brings it.
type Tool struct {
	ID       string   // capability id: tool.clang
	Name     string   // as people call it
	Commands []string // names on PATH, best first
	Folders  []string // glob patterns, beside PATH, without the leading slash
	Files    []string // for a library: glob patterns of what shows that it is there, in place of Commands
	Version  []string // arguments that print the version; none: it is slow to say
	Purpose  Purpose
	Debian   []string // packages
	Other    string   // likely names elsewhere
	Costs    string   // what its absence costs
}

// tools lists what the labs, the build and the report checks use. Nothing here
// is needed to build or to run day 7.
var tools = []Tool{
	{ID: "tool.clang", Name: "clang", Commands: []string{"clang-19"}, Version: []string{"--version"}, Purpose: ForGenerate,
		Debian: []string{"clang-19", "llvm-19"}, Other: "clang, llvm (version 19)", Costs: "can't rebuild the committed BPF objects and Wasm guests; running labs does not need it"},
	{ID: "tool.lld", Name: "lld", Commands: []string{"wasm-ld-19", "ld.lld-19"}, Version: []string{"--version"}, Purpose: ForGenerate,
		Debian: []string{"lld-19"}, Other: "lld (version 19)", Costs: "can't link the committed Wasm guests again; running labs does not need it"},
	{ID: "tool.clang-format", Name: "clang-format", Commands: []string{"clang-format-19"}, Version: []string{"--version"}, Purpose: ForGenerate,
		Debian: []string{"clang-format-19"}, Other: "clang-tools-extra (version 19)", Costs: "the C lint of .ci/run is skipped"},
	{ID: "tool.libbpf", Name: "libbpf headers", Files: []string{"usr/include/bpf/bpf_helpers.h"}, Purpose: ForGenerate,
		Debian: []string{"libbpf-dev"}, Other: "libbpf-devel", Costs: "can't rebuild the committed BPF objects; running labs does not need it"},
	{ID: "tool.flatc", Name: "flatc", Commands: []string{"flatc"}, Version: []string{"--version"}, Purpose: ForGenerate,
		Debian: []string{"flatbuffers-compiler"}, Other: "flatbuffers", Costs: "can't rebuild the committed FlatBuffers accessors; running labs does not need it"},
	{ID: "tool.bpftool", Name: "bpftool", Commands: []string{"bpftool"}, Folders: []string{"usr/sbin", "sbin"}, Version: []string{"version"}, Purpose: ForReports,
		Debian: []string{"bpftool"}, Other: "bpftool", Costs: "can't list loaded programs and pins by hand, nor make the vmlinux header anew"},
	{ID: "tool.chromium", Name: "chromium", Commands: []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}, Version: []string{"--version"}, Purpose: ForReports,
		Debian: []string{"chromium"}, Other: "chromium", Costs: "the browser checks of the HTML report are skipped; reports are still made"},
	{ID: "tool.postgres", Name: "PostgreSQL", Commands: []string{"postgres"}, Folders: []string{"usr/lib/postgresql/*/bin", "usr/pgsql-*/bin"}, Version: []string{"--version"}, Purpose: ForRun,
		Debian: []string{"postgresql"}, Other: "postgresql-server", Costs: "labs with a PostgreSQL contender need POSTGRES_URL instead; day 7 has none"},
	{ID: "tool.redis", Name: "Redis", Commands: []string{"redis-server", "valkey-server"}, Version: []string{"--version"}, Purpose: ForRun,
		Debian: []string{"redis-server"}, Other: "redis or valkey", Costs: "labs with a Redis contender need REDIS_URL instead; day 7 has none"},
	{ID: "tool.hnswlib", Name: "hnswlib", Files: []string{"usr/lib/python3/dist-packages/hnswlib*.so"}, Purpose: ForCalibrate,
		Debian: []string{"python3-hnswlib"}, Other: "python3-hnswlib", Costs: "the vector index can't be compared with hnswlib (nexus vectors bench)"},
	{ID: "tool.fio", Name: "fio", Commands: []string{"fio"}, Version: []string{"--version"}, Purpose: ForCalibrate,
		Debian: []string{"fio"}, Other: "fio", Costs: "the generator's file I/O can't be compared with fio"},
	{ID: "tool.wrk", Name: "wrk", Commands: []string{"wrk"}, Version: []string{"--version"}, Purpose: ForCalibrate,
		Debian: []string{"wrk"}, Other: "wrk", Costs: "the generator's HTTP rate can't be compared with wrk"},
	{ID: "tool.qemu", Name: "QEMU", Commands: []string{"qemu-system-x86_64"}, Version: []string{"--version"}, Purpose: ForVM,
		Debian: []string{"qemu-system-x86"}, Other: "qemu-system-x86", Costs: "no other kernel can be tried (nexus vm, make matrix); Vagrant needs none"},
	{ID: "tool.busybox", Name: "busybox", Commands: []string{"busybox"}, Version: []string{"--help"}, Purpose: ForVM,
		Debian: []string{"busybox-static"}, Other: "busybox", Costs: "no shell in the virtual machine (nexus vm shell)"},
	{ID: "tool.e2fsprogs", Name: "e2fsprogs", Commands: []string{"mkfs.ext4"}, Folders: []string{"usr/sbin", "sbin"}, Version: []string{"-V"}, Purpose: ForVM,
		Debian: []string{"e2fsprogs"}, Other: "e2fsprogs", Costs: "no disk for the virtual machine (nexus vm)"},
	{ID: "tool.debian-keyring", Name: "Debian's archive keys", Files: []string{"usr/share/keyrings/debian-archive-keyring.gpg"}, Purpose: ForVM,
		Debian: []string{"debian-archive-keyring"}, Other: "debian-archive-keyring", Costs: "kernel packages come from this system's own archive only (nexus vm)"},
	{ID: "tool.node", Name: "Node.js", Commands: []string{"node"}, Version: []string{"--version"}, Purpose: ForCDC,
		Debian: []string{"nodejs"}, Other: "nodejs", Costs: "no embedded SurrealDB: set SURREALDB_URL or put surreal on PATH"},
	{ID: "tool.npm", Name: "npm", Commands: []string{"npm"}, Purpose: ForCDC,
		Debian: []string{"npm"}, Other: "npm", Costs: "the embedded SurrealDB can't be installed"},
	{ID: "tool.rocksdb", Name: "RocksDB with headers", Files: []string{"usr/include/rocksdb/db.h"}, Purpose: ForCDC,
		Debian: []string{"librocksdb-dev"}, Other: "rocksdb-devel", Costs: "the RocksDB probe's highest rate can't be measured"},
	{ID: "tool.g++", Name: "g++", Commands: []string{"g++"}, Version: []string{"--version"}, Purpose: ForCDC,
		Debian: []string{"g++"}, Other: "gcc-c++", Costs: "the writer on RocksDB can't be compiled"},
	{ID: "tool.vagrant", Name: "Vagrant", Commands: []string{"vagrant"}, Purpose: ForVagrant,
		Debian: []string{"vagrant"}, Other: "vagrant", Costs: "the Vagrant machines can't be started nor their file checked; nexus vm needs no Vagrant"},
}

// toolByID returns the tool with a capability id.
func toolByID(id string) (Tool, bool) {
	for _, t := range tools {
		if t.ID == id {
			return t, true
		}
	}
	return Tool{}, false
}

// locateTools finds each tool on a PATH (colon separated) or in its usual
// folders and returns the absolute path by tool id. The version that sorts
// last wins among several folders.
func locateTools(root fs.FS, searchPath string) map[string]string {
	found := map[string]string{}
	for _, t := range tools {
		if name := locate(root, t, searchPath); name != "" {
			found[t.ID] = name
		}
	}
	return found
}

func locate(root fs.FS, t Tool, searchPath string) string {
	for _, pattern := range t.Files {
		if matches, err := fs.Glob(root, pattern); err == nil && len(matches) > 0 {
			return "/" + matches[0]
		}
	}
	var folders []string
	for _, folder := range strings.Split(searchPath, ":") {
		if strings.HasPrefix(folder, "/") {
			folders = append(folders, strings.TrimPrefix(path.Clean(folder), "/"))
		}
	}
	for _, pattern := range t.Folders {
		matches, err := fs.Glob(root, pattern)
		if err != nil {
			continue
		}
		sort.Sort(sort.Reverse(sort.StringSlice(matches)))
		folders = append(folders, matches...)
	}
	for _, command := range t.Commands {
		for _, folder := range folders {
			name := path.Join(folder, command)
			info, err := fs.Stat(root, name)
			if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
				return "/" + name
			}
		}
	}
	return ""
}

// toolVersionTimeout bounds each question for a version.
const toolVersionTimeout = 2 * time.Second

// toolVersionsAtOnceMax bounds how many tools are asked at the same time.
const toolVersionsAtOnceMax = 2

// toolVersions asks each tool for its version and returns them by tool id; a
// tool that does not answer in time has the version "unknown".
func toolVersions(ctx context.Context, located map[string]string) map[string]string {
	var (
		mu       sync.Mutex
		wg       sync.WaitGroup
		versions = make(map[string]string, len(located))
		slots    = make(chan struct{}, toolVersionsAtOnceMax)
	)
	for id, name := range located {
		t, known := toolByID(id)
		if !known || len(t.Commands) == 0 || len(t.Version) == 0 {
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			v := askVersion(ctx, name, t.Version)
			mu.Lock()
			defer mu.Unlock()
			versions[strings.TrimPrefix(id, "tool.")] = v
		})
	}
	wg.Wait()
	return versions
}

// askVersion ignores the exit status: wrk prints its version and exits with 1.
func askVersion(ctx context.Context, name string, args []string) string {
	ctx, cancel := context.WithTimeout(ctx, toolVersionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, _ := cmd.CombinedOutput()
	return parseVersion(string(out))
}

var versionPattern = regexp.MustCompile(`\bv?=?(\d+\.\d+(?:\.\d+)*(?:-rc\d+)?)\b`)

// parseVersion takes the first dotted number out of what a tool says of itself.
func parseVersion(text string) string {
	m := versionPattern.FindStringSubmatch(text)
	if m == nil {
		return "unknown"
	}
	return m[1]
}
