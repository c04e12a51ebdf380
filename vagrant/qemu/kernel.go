package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/vagrant"
)

// Kernel is a kernel package that lies unpacked in the cache.
type Kernel struct {
	vagrant.Kernel
	Release string // uname -r
	Image   string // path of the bootable image
	Modules string // folder lib/modules/<release>
}

// cacheDir holds unpacked kernels between calls.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		base = filepath.Join(os.TempDir(), fmt.Sprintf("nexus-cache-%d", os.Getuid()))
	}
	dir := filepath.Join(base, "nexus", "kernels")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the kernel cache: %w", err)
	}
	return dir, nil
}

// Cached returns the kernel if it lies in the cache already; found is false if
// it has to be fetched first.
func Cached(k vagrant.Kernel) (kernel Kernel, found bool) {
	dir, err := cacheDir()
	if err != nil {
		return Kernel{}, false
	}
	folders, err := filepath.Glob(filepath.Join(dir, k.Name+"-*"))
	if err != nil || len(folders) == 0 {
		return Kernel{}, false
	}
	slices.SortFunc(folders, byTime)
	kernel, err = unpacked(k, folders[len(folders)-1])
	return kernel, err == nil
}

func byTime(a, b string) int {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA != nil || errB != nil {
		return strings.Compare(a, b)
	}
	return infoA.ModTime().Compare(infoB.ModTime())
}

// Fetch provides a kernel: from the cache if it holds what the package archive
// names now, else by apt, which checks the archive's signature and checksums.
// Without an archive the newest that lies in the cache serves.
func Fetch(ctx context.Context, k vagrant.Kernel, say func(string)) (Kernel, error) {
	if k.Package == "" {
		return Kernel{}, &LackError{What: fmt.Sprintf("kernel %s has no package for nexus vm; its Vagrant machine has it", k.Name),
			Fix: "cd vagrant && vagrant up " + k.Machine}
	}
	dir, err := cacheDir()
	if err != nil {
		return Kernel{}, err
	}
	source, image, err := findPackage(ctx, k, dir, say)
	if err != nil {
		if kernel, found := Cached(k); found && ctx.Err() == nil {
			return kernel, nil
		}
		return Kernel{}, err
	}
	target := filepath.Join(dir, k.Name+"-"+image)
	if kernel, err := unpacked(k, target); err == nil {
		return kernel, nil
	}
	unlock, err := lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	if kernel, err := unpacked(k, target); err == nil {
		return kernel, nil // another call was faster
	}
	say(fmt.Sprintf("fetching kernel package %s", image))
	if err := source.unpack(ctx, dir, image, target); err != nil {
		return Kernel{}, err
	}
	return unpacked(k, target)
}

// lock makes two calls fetch one after the other; it goes with the process.
func lock(name string) (unlock func(), err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the kernel cache: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the kernel cache: %w", err), file.Close())
	}
	return func() { file.Close() }, nil
}

// unpacked looks at an unpacked package.
func unpacked(k vagrant.Kernel, dir string) (Kernel, error) {
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return Kernel{}, fmt.Errorf("kernel package in %s: %d images", dir, len(images))
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	for _, modules := range []string{"lib/modules", "usr/lib/modules"} {
		folder := filepath.Join(dir, modules, release)
		if _, err := os.Stat(folder); err == nil {
			return Kernel{Kernel: k, Release: release, Image: images[0], Modules: folder}, nil
		}
	}
	return Kernel{}, fmt.Errorf("kernel package in %s has no modules of %s", dir, release)
}

// imagePackage follows a meta-package to the package that holds the image.
func (s packageSource) imagePackage(ctx context.Context, k vagrant.Kernel) (string, error) {
	out, err := s.run(ctx, "", "apt-cache", "depends", "--important", k.Package)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		name, found := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		if found && strings.HasPrefix(name, "linux-image-") {
			return name, nil
		}
	}
	if strings.HasPrefix(strings.TrimSpace(out), k.Package) {
		return k.Package, nil // it is no meta-package
	}
	return "", errors.New("apt knows no package " + k.Package)
}

// unpack fetches the package and unpacks it; the folder appears whole or not at all.
func (s packageSource) unpack(ctx context.Context, dir, image, target string) error {
	work, err := os.MkdirTemp(dir, ".fetch-*")
	if err != nil {
		return fmt.Errorf("fetch %s: %w", image, err)
	}
	defer os.RemoveAll(work)
	if _, err := s.run(ctx, work, "apt-get", "-q", "download", image); err != nil {
		return &LackError{What: "kernel package " + image + " can't be fetched", Err: err, Fix: "sudo apt-get update"}
	}
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(packages) != 1 {
		return &LackError{What: fmt.Sprintf("apt-get download brought %d files for %s", len(packages), image)}
	}
	files := filepath.Join(work, "files")
	if _, err := (packageSource{}).run(ctx, work, "dpkg-deb", "-x", packages[0], files); err != nil {
		return &LackError{What: "kernel package " + image + " can't be unpacked", Err: err}
	}
	if err := os.Rename(files, target); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep %s: %w", image, err)
	}
	return nil
}

// packageSource is where apt looks: options that come behind its name. The zero
// value is this system's own sources.
type packageSource struct{ options []string }

// findPackage looks into this system's own sources and, where these lack the
// package, into those that the matrix names, with lists in a folder of their own
// that change nothing of the system.
func findPackage(ctx context.Context, k vagrant.Kernel, dir string, say func(string)) (packageSource, string, error) {
	if _, err := exec.LookPath("apt-cache"); err != nil {
		return packageSource{}, "", &LackError{What: "kernel packages are fetched with apt, which this system has not", Fix: "cd vagrant && vagrant up " + k.Machine}
	}
	own := packageSource{options: []string{"-o", "APT::Sandbox::User=root"}}
	image, ownErr := own.imagePackage(ctx, k)
	if ownErr == nil {
		return own, image, nil
	}
	lack := &LackError{What: fmt.Sprintf("no kernel package %s (kernel %s) in this system's package lists", k.Package, k.Name), Err: ownErr, Fix: "sudo apt-get update"}
	if _, found := Cached(k); found {
		return own, "", lack // what lies there serves
	}
	say("this system's apt sources have no " + k.Package + "; asking those of vagrant/kernels.yaml")
	matrix, err := matrixSource(ctx, filepath.Join(dir, "apt"))
	if err == nil {
		image, err = matrix.imagePackage(ctx, k)
	}
	if err != nil {
		lack.Err = errors.Join(ownErr, err)
		return own, "", lack
	}
	return matrix, image, nil
}

func matrixSource(ctx context.Context, dir string) (packageSource, error) {
	archives, err := vagrant.Archives()
	if err != nil {
		return packageSource{}, err
	}
	list := filepath.Join(dir, "sources.list")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "state", "lists", "partial"), 0o755), os.MkdirAll(filepath.Join(dir, "cache", "archives", "partial"), 0o755),
		os.WriteFile(list, []byte(strings.Join(archives, "\n")+"\n"), 0o644)); err != nil {
		return packageSource{}, fmt.Errorf("make a place for package lists: %w", err)
	}
	s := packageSource{}
	for _, option := range []string{"APT::Sandbox::User=root", "Dir::Etc::SourceList=" + list, "Dir::Etc::SourceParts=/dev/null",
		"Dir::State=" + filepath.Join(dir, "state"), "Dir::Cache=" + filepath.Join(dir, "cache"), "Acquire::Languages=none"} {
		s.options = append(s.options, "-o", option)
	}
	_, err = s.run(ctx, "", "apt-get", "-q", "update")
	return s, err
}

// run runs one of the package tools and returns what it printed.
func (s packageSource) run(ctx context.Context, dir string, argv ...string) (string, error) {
	argv = slices.Concat(argv[:1], s.options, argv[1:])
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", argv[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
