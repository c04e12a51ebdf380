package syscallprobe

import "fmt"

//go:generate go run names_gen.go

// numberMax bounds the system call numbers that are told apart.
const numberMax = 512

// Name returns the name of a system call number of this architecture, or
// "syscall N" for a number that is younger than the table.
func Name(number int) string {
	if number >= 0 && number < numberMax && names[number] != "" {
		return names[number]
	}
	return fmt.Sprintf("syscall %d", number)
}
