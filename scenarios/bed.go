package scenarios

import (
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/bpf/netbed"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/machine"
	"golang.org/x/sys/unix"
)

// loopbackHost is where contenders listen on the host's network.
const loopbackHost = "127.0.0.1"

// workload is the point's, as this trial's contender is asked it.
func (t *trialRun) workload() Workload {
	return t.scenario.workloadOf(t.slot.point, t.slot.contender)
}

// makeBed makes the trial's network where the scenario wants one. Packets are worked
// on by threads of the kernel on the contender's and the generator's CPUs; a kernel
// that can't do that would have the generator pay for the contender's packets, and
// the trial says so.
func (t *trialRun) makeBed() error {
	options := netbed.Options{Name: machine.LeftoverName()}
	switch t.workload().Network {
	case NetworkVeth:
		options.ServerCPUs, options.ClientCPUs = t.cpus.Contender, t.generatorCPUs()
	case NetworkVethInline:
	default:
		return nil
	}
	bed, err := netbed.New(options)
	if err != nil {
		return environmentError("run as root; `nexus doctor` says what is missing", "%w", err)
	}
	t.bed = bed
	for _, note := range bed.Notes {
		t.invalid("the contender's CPU time: " + note)
	}
	if !t.contender(t.slot.contender).AnswersInDriver {
		return nil
	}
	if err := bed.Client.PassThrough(); err != nil {
		return errors.Join(environmentError("", "%w", err), t.closeBed())
	}
	return nil
}

func (t *trialRun) closeBed() error {
	if t.bed == nil {
		return nil
	}
	err := t.bed.Close()
	t.bed = nil
	if err != nil {
		return fmt.Errorf("take the trial's network down: %w", err)
	}
	return nil
}

func (t *trialRun) serverNetns() string {
	if t.bed == nil {
		return ""
	}
	return t.bed.Server.Netns
}

// target is where the generator sends to.
func (t *trialRun) target(address string) loadgen.Target {
	target := loadgen.Target{Network: t.workload().Transport, Address: address}
	if t.bed != nil && target.Network != transportUnix {
		target.Netns, target.Allow = t.bed.Client.Netns, netbed.Subnet
	}
	return target
}

// usage is what the contender has used so far, the work on its packets included.
func (t *trialRun) usage() (usage, error) {
	u, err := readUsage(t.child.cmd.Process.Pid, t.group)
	if err != nil || t.bed == nil || t.bed.Server.Thread == 0 {
		return u, err
	}
	if u.PacketNs, err = t.bed.Server.CPUNs(); err != nil {
		return u, err
	}
	u.SystemNs += u.PacketNs
	return u, nil
}

// enterNetns moves the calling thread, which must be thrown away afterwards.
func enterNetns(path string) error {
	if path == "" {
		return nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}
