// Package vagrant holds the machines that the labs can be tried on: the kernel
// matrix, and beside it the Vagrantfile that reads the same file. The packages
// below it run the matrix without Vagrant or any image.
package vagrant

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed kernels.yaml
var matrixYAML []byte

// Proven is what the BPF programs were seen to do on each kernel, a proof.Record;
// make matrix writes it.
//
//go:embed proven.json
var Proven []byte

// Kernel is one entry of the matrix; kernels.yaml explains the fields.
type Kernel struct {
	Name       string `yaml:"name" json:"name"`
	Machine    string `yaml:"machine" json:"machine"`
	Box        string `yaml:"box" json:"box"`
	BoxPackage string `yaml:"box_package" json:"box_package,omitempty"`
	BoxArchive string `yaml:"box_archive" json:"box_archive,omitempty"`
	Package    string `yaml:"package" json:"package,omitempty"`
	MemoryMiB  int    `yaml:"memory_mib" json:"memory_mib"`
	CPUs       int    `yaml:"cpus" json:"cpus"`
	Matrix     bool   `yaml:"matrix" json:"matrix"`
	Enables    string `yaml:"enables" json:"enables"`
}

// Bounds of a machine: less does not boot the labs, more is a slip of the pen.
const (
	memoryMiBMin = 512
	memoryMiBMax = 64 << 10
	cpusMax      = 64
)

// Kernels returns the matrix, the oldest kernel first.
func Kernels() ([]Kernel, error) {
	file, err := parse(matrixYAML)
	return file.Kernels, err
}

// Archives returns the apt sources that have the kernel packages.
func Archives() ([]string, error) {
	file, err := parse(matrixYAML)
	return file.Archives, err
}

// matrix is the file.
type matrix struct {
	Archives []string `yaml:"archives"`
	Kernels  []Kernel `yaml:"kernels"`
}

func parse(text []byte) (matrix, error) {
	var file matrix
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		return file, fmt.Errorf("read the kernel matrix: %w", err)
	}
	return file, file.validate()
}

func (file matrix) validate() error {
	if len(file.Kernels) == 0 {
		return errors.New("read the kernel matrix: no kernels")
	}
	names, machines := map[string]bool{}, map[string]bool{}
	for _, k := range file.Kernels {
		if err := k.validate(); err != nil {
			return fmt.Errorf("read the kernel matrix: kernel %q: %w", k.Name, err)
		}
		if names[k.Name] || machines[k.Machine] {
			return fmt.Errorf("read the kernel matrix: kernel %q: its name or its machine %q is there twice", k.Name, k.Machine)
		}
		names[k.Name], machines[k.Machine] = true, true
	}
	return nil
}

func (k Kernel) validate() error {
	switch {
	case k.Name == "" || k.Machine == "" || k.Box == "" || k.Enables == "":
		return errors.New("name, machine, box and enables must be given")
	case k.MemoryMiB < memoryMiBMin || k.MemoryMiB > memoryMiBMax:
		return fmt.Errorf("memory_mib %d is not between %d and %d", k.MemoryMiB, memoryMiBMin, memoryMiBMax)
	case k.CPUs < 1 || k.CPUs > cpusMax:
		return fmt.Errorf("cpus %d is not between 1 and %d", k.CPUs, cpusMax)
	case k.Matrix && k.Package == "":
		return errors.New("matrix needs a package, since it runs without Vagrant")
	case k.BoxArchive != "" && k.BoxPackage == "":
		return errors.New("box_archive without box_package")
	}
	return nil
}

// UnknownKernelError says that the matrix has no such kernel.
type UnknownKernelError struct {
	Name  string
	Known []string
}

// Error names the kernels that there are.
func (e *UnknownKernelError) Error() string {
	return fmt.Sprintf("no kernel %q in the matrix; known are %s (vagrant/kernels.yaml has one entry for each)", e.Name, strings.Join(e.Known, ", "))
}

// ExitCode is 3: this environment has no such kernel.
func (e *UnknownKernelError) ExitCode() int { return 3 }

// ByName finds a kernel. The error is an *UnknownKernelError if there is none.
func ByName(name string) (Kernel, error) {
	kernels, err := Kernels()
	if err != nil {
		return Kernel{}, err
	}
	unknown := &UnknownKernelError{Name: name}
	for _, k := range kernels {
		if k.Name == name {
			return k, nil
		}
		unknown.Known = append(unknown.Known, k.Name)
	}
	return Kernel{}, unknown
}
