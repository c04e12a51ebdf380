package qemu

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/vagrant/guest"
)

// File is a file of the host that the machine gets.
type File struct {
	Name    string // path in the machine
	Source  string // path on the host
	Program bool   // its dynamic linker and libraries come along
}

// Options say what a machine is and does.
type Options struct {
	Kernel    Kernel
	Binary    string // this program, for the machine to start
	Files     []File
	Request   guest.Request // Modules are filled in
	MemoryMiB int
	CPUs      int
	DiskMiB   int           // size of an empty disk; 0: none
	Drive     string        // a block device for QEMU instead, such as nbd+unix:///?socket=…
	Boot      time.Duration // until the machine greets; default BootMax
	Timeout   time.Duration // from then on, for everything
	Accel     string        // kvm or tcg; empty: what a probe finds

	Stdout, Stderr io.Writer         // of the commands; nil: dropped
	Collect        string            // folder that gets what the machine sends back
	Hello          func(Report)      // called once when the machine is up; may be nil
	Started        func(index int)   // called when a command begins; may be nil
	Process        func(*os.Process) // called with the running QEMU; may be nil
}

// BootMax is how long a machine may take to greet. On an idle machine it takes
// some seconds even when emulated; this is for crowded ones.
const BootMax = 2 * time.Minute

// Report is what a machine did.
type Report struct {
	Kernel  string       `json:"kernel"`           // name in the matrix
	Release string       `json:"release"`          // uname -r, as the machine says
	Accel   string       `json:"accel"`            // kvm or tcg
	NoKVM   string       `json:"no_kvm,omitempty"` // why not kvm
	BootMs  int64        `json:"boot_ms"`          // from QEMU's start to the greeting, by the host's clock
	Exits   []guest.Exit `json:"exits"`
}

// Emulated reports whether the machine's processor was software.
func (r Report) Emulated() bool { return r.Accel == AccelTCG }

// Accelerators, in QEMU's words.
const (
	AccelKVM = "kvm"
	AccelTCG = "tcg" // emulation
)

// Run boots a machine, lets it do its request and returns how the commands
// ended; a command that fails is no error here. Errors are *LackError (exit code
// 3) and *MachineError (exit code 4). Nothing is left behind but, after a
// *MachineError, the console's output.
func Run(ctx context.Context, options Options) (Report, error) {
	accel, noKVM := Accel(ctx, options)
	report, err := runOnce(ctx, options, accel)
	report.NoKVM = noKVM
	return report, err
}

func runOnce(ctx context.Context, options Options, accel string) (report Report, err error) {
	report = Report{Kernel: options.Kernel.Name, Accel: accel}
	program, err := program()
	if err != nil {
		return report, err
	}
	work, err := machine.NewTempRoot()
	if err != nil {
		return report, &LackError{What: "no room for the machine's files", Err: err}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	args, err := prepare(ctx, options, accel, work)
	if err != nil {
		return report, err
	}
	m := &running{options: options, work: work, report: &report}
	return report, m.run(ctx, program, args)
}

func program() (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", &LackError{What: "nexus vm has kernels for amd64 only, and this is " + runtime.GOARCH, Fix: "cd vagrant && vagrant up k612"}
	}
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return "", &LackError{What: "no QEMU on PATH", Err: err, Fix: "sudo nexus setup --for vm"}
	}
	return path, nil
}

// prepare makes the initial file system and the disk, and returns QEMU's arguments.
func prepare(ctx context.Context, options Options, accel, work string) ([]string, error) {
	initrd := filepath.Join(work, "initrd")
	if err := writeInitrd(initrd, options); err != nil {
		return nil, err
	}
	processor, acceleration := "max", "tcg,thread=multi"
	if accel == AccelKVM {
		processor, acceleration = "host", "kvm"
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", acceleration, "-cpu", processor,
		"-smp", strconv.Itoa(options.CPUs), "-m", strconv.Itoa(options.MemoryMiB),
		"-kernel", options.Kernel.Image, "-initrd", initrd,
		// panic=-1 restarts at once, which with -no-reboot ends QEMU.
		"-append", "console=ttyS0 quiet panic=-1 rdinit=" + guest.BinaryPath + " -- " + guest.InitCommand,
		"-device", "virtio-serial-pci",
	}
	if options.Request.Shell {
		args = append(args, "-serial", "mon:stdio", "-chardev", "null,id=port")
	} else {
		args = append(args, "-chardev", "file,id=console,path="+filepath.Join(work, consoleName), "-serial", "chardev:console",
			"-chardev", "stdio,id=port,signal=off")
	}
	args = append(args, "-device", "virtserialport,chardev=port,name="+guest.PortName)
	drive := options.Drive
	if options.DiskMiB > 0 {
		drive = filepath.Join(work, "disk")
		if err := MakeDisk(ctx, drive, options.DiskMiB); err != nil {
			return nil, err
		}
	}
	if drive != "" {
		// The machine sees a disk with a volatile write cache, so its file system
		// sends flushes; QEMU hands each one on.
		args = append(args, "-drive", "id=disk,if=none,format=raw,cache=writeback,discard=unmap,file="+drive, "-device", "virtio-blk-pci,drive=disk")
	}
	return args, nil
}

// MakeDisk makes an empty ext4 file system in a sparse file.
func MakeDisk(ctx context.Context, path string, mib int) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make a disk: %w", err)
	}
	if err := errors.Join(file.Truncate(int64(mib)<<20), file.Close()); err != nil {
		return fmt.Errorf("make a disk: %w", err)
	}
	out, err := exec.CommandContext(ctx, tool("mkfs.ext4"), "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", path).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return &LackError{What: "no mkfs.ext4", Err: err, Fix: "sudo nexus setup --for vm"}
	}
	if err != nil {
		return fmt.Errorf("make a file system: %w: %s", err, out)
	}
	return nil
}

// tool finds a system program also where PATH leaves out the administrator's folders.
func tool(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, folder := range []string{"/usr/sbin", "/sbin"} {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return name
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func writeInitrd(path string, options Options) error {
	modules, err := modulesInOrder(options.Kernel.Modules, wantedModules)
	if err != nil {
		return fmt.Errorf("kernel %s: %w", options.Kernel.Release, err)
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make the initial file system: %w", err)
	}
	err = fillInitrd(newArchive(file), modules, options)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("make the initial file system: %w", err)
	}
	return nil
}

func fillInitrd(a *archive, modules []module, options Options) error {
	request := options.Request
	for i, m := range modules {
		name := fmt.Sprintf("/nexus/modules/%02d-%s.ko", i, m.name)
		if err := a.bytes(name, m.data); err != nil {
			return err
		}
		request.Modules = append(request.Modules, name)
	}
	request.Disk = options.DiskMiB > 0 || options.Drive != ""
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	// The kernel opens the console before anything is mounted.
	if err := errors.Join(a.device("/dev/console", 5, 1), a.bytes(guest.RequestPath, text), a.folder("/root"), a.folder("/etc")); err != nil {
		return err
	}
	config := "config-" + options.Kernel.Release // nexus doctor explains refusals by it
	if path := filepath.Join(filepath.Dir(options.Kernel.Image), config); exists(path) {
		if err := a.copy("/boot/"+config, path); err != nil {
			return err
		}
	}
	files := append([]File{{guest.BinaryPath, options.Binary, true}}, options.Files...)
	if busybox, err := exec.LookPath("busybox"); err == nil {
		files = append(files, File{guest.BusyboxPath, busybox, true})
	} else if request.Shell {
		return &LackError{What: "no busybox on PATH, and a shell needs one", Err: err, Fix: "sudo nexus setup --for vm"}
	}
	return errors.Join(copyFiles(a, files), a.close())
}

func copyFiles(a *archive, files []File) error {
	there := map[string]bool{}
	for _, f := range files {
		if !f.Program {
			if err := a.copy(f.Name, f.Source); err != nil {
				return err
			}
			continue
		}
		if err := a.program(f.Name, f.Source); err != nil {
			return err
		}
		needed, err := libraries(f.Source)
		if err != nil {
			return err
		}
		for _, library := range needed {
			if there[library] {
				continue
			}
			there[library] = true
			if err := a.copy(library, library); err != nil {
				return err
			}
		}
	}
	return nil
}

// running is a started machine.
type running struct {
	options Options
	work    string
	report  *Report
	done    bool   // it said so
	refused string // what it could not do
	files   *untar
}

func (m *running) run(ctx context.Context, program string, args []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if m.options.Request.Shell {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		defer time.AfterFunc(m.options.Timeout, cancel).Stop()
		return cmd.Run()
	}
	stderr, err := os.Create(filepath.Join(m.work, "qemu.log"))
	if err != nil {
		return fmt.Errorf("keep what QEMU says: %w", err)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	input, err := cmd.StdinPipe() // stays open: its end would be the port's end
	if err != nil {
		return err
	}
	defer input.Close()
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return &LackError{What: "QEMU does not start", Err: err}
	}
	_ = machine.RecordChild(m.work, cmd.Process.Pid) // for nexus clean; it may have ended already
	if m.options.Process != nil {
		m.options.Process(cmd.Process)
	}
	late := time.AfterFunc(m.boot(), func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	talk := m.listen(output, began, func() { late.Reset(m.options.Timeout) })
	if talk != nil {
		cancel() // what it said makes no sense, so it is not waited for
	}
	ended := cmd.Wait()
	if m.files != nil {
		talk = errors.Join(talk, m.files.close())
	}
	return m.judge(ctx, talk, ended)
}

func (m *running) boot() time.Duration {
	if m.options.Boot > 0 {
		return m.options.Boot
	}
	return BootMax
}

// listen takes the machine's messages until the last. An end without one is no
// error here; judge looks why.
func (m *running) listen(from io.Reader, began time.Time, greeted func()) error {
	for !m.done && m.refused == "" {
		message, err := guest.Read(from)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if message.Kind == guest.KindHello {
			greeted()
			m.report.BootMs = max(1, time.Since(began).Milliseconds())
		}
		if err := m.take(message); err != nil {
			return err
		}
	}
	return nil
}

func (m *running) take(message guest.Message) error {
	switch message.Kind {
	case guest.KindHello:
		var hello guest.Hello
		if err := json.Unmarshal(message.Body, &hello); err != nil {
			return fmt.Errorf("read the greeting: %w", err)
		}
		m.report.Release = hello.Release
		if m.options.Hello != nil {
			m.options.Hello(*m.report)
		}
	case guest.KindStart:
		var start guest.Start
		if err := json.Unmarshal(message.Body, &start); err != nil {
			return fmt.Errorf("read a command's start: %w", err)
		}
		if m.options.Started != nil {
			m.options.Started(start.Index)
		}
	case guest.KindStdout:
		return write(m.options.Stdout, message.Body)
	case guest.KindStderr:
		return write(m.options.Stderr, message.Body)
	case guest.KindExit:
		var exit guest.Exit
		if err := json.Unmarshal(message.Body, &exit); err != nil {
			return fmt.Errorf("read a command's end: %w", err)
		}
		m.report.Exits = append(m.report.Exits, exit)
	case guest.KindFiles:
		if m.files == nil {
			m.files = newUntar(m.options.Collect)
		}
		return write(m.files, message.Body)
	case guest.KindDone:
		m.done = true
	case guest.KindError:
		m.refused = string(message.Body)
	}
	return nil
}

func write(to io.Writer, body []byte) error {
	if to == nil {
		return nil
	}
	_, err := to.Write(body)
	return err
}

// judge says why a machine ended that did not end well.
func (m *running) judge(ctx context.Context, talk, ended error) error {
	console := readConsole(filepath.Join(m.work, consoleName))
	exhausted := console.outOfMemory()
	for _, exit := range m.report.Exits {
		exhausted = exhausted || (exit.OOMKills > 0 && exit.Code != 0)
	}
	failure := &MachineError{Tail: console.tail()}
	switch {
	case errors.Is(ctx.Err(), context.Canceled) && talk == nil:
		return ctx.Err()
	case exhausted:
		failure.Fate, failure.Detail = FateMemory, fmt.Sprintf("it has %d MiB; --memory gives it more", m.options.MemoryMiB)
	case talk != nil:
		failure.Fate, failure.Detail = FateRefused, talk.Error()
	case m.done:
		return nil
	case m.refused != "":
		failure.Fate, failure.Detail = FateRefused, m.refused
	case console.panic() != "":
		failure.Fate, failure.Detail = FatePanic, console.panic()
	case m.report.BootMs == 0 && killed(ended):
		failure.Fate, failure.Detail = FateSilent, m.boot().String()
	case m.report.BootMs == 0 && m.said() != "":
		return &LackError{What: "QEMU does not start the machine: " + m.said()}
	case killed(ended):
		failure.Fate, failure.Detail = FateHang, m.options.Timeout.String()
	default:
		failure.Fate, failure.Detail = FateGone, m.said()
	}
	kept, err := keepConsole(m.options.Kernel.Name, m.work)
	failure.Console = kept
	return errors.Join(failure, err)
}

func killed(ended error) bool {
	var exit *exec.ExitError
	if !errors.As(ended, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// said is what QEMU itself complained of.
func (m *running) said() string {
	text, err := os.ReadFile(filepath.Join(m.work, "qemu.log"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// untar unpacks a tar stream below a folder while it arrives.
type untar struct {
	pipe *io.PipeWriter
	done chan error
}

func newUntar(dir string) *untar {
	reader, writer := io.Pipe()
	u := &untar{pipe: writer, done: make(chan error, 1)}
	go func() {
		err := extract(reader, dir)
		reader.CloseWithError(err)
		u.done <- err
	}()
	return u
}

func (u *untar) Write(p []byte) (int, error) { return u.pipe.Write(p) }

func (u *untar) close() error { return errors.Join(u.pipe.Close(), <-u.done) }

// extract writes regular files only, and only below dir: os.Root holds that.
func extract(from io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("unpack what the machine sent: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack what the machine sent: %w", err)
	}
	defer root.Close()
	archive := tar.NewReader(from)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, from) // the padding
			return err
		}
		if err != nil {
			return fmt.Errorf("unpack what the machine sent: %w", err)
		}
		if err := extractOne(root, header, archive); err != nil {
			return fmt.Errorf("unpack %s: %w", header.Name, err)
		}
	}
}

func extractOne(root *os.Root, header *tar.Header, from io.Reader) error {
	name := filepath.Clean(header.Name)
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		file, err := root.Create(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, from)
		return errors.Join(err, file.Close())
	}
	return nil // links and devices are no results
}
