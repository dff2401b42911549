package hardware

import (
	"errors"
	"fmt"
)

// Class says how well a model fits; higher is better. In JSON it is its name.
type Class int

// The classes, worst first.
const (
	None    Class = iota // does not fit: never route here, never pull here
	CPU                  // in RAM, on the processor
	Partial              // some layers on the GPU, the rest in RAM
	Tight                // all on the GPU, if nothing else is loaded
	Full                 // all on the GPU, beside other models
)

var classNames = [...]string{"none", "cpu", "partial", "tight", "full"}

// ErrClass is returned for text that names no class.
var ErrClass = errors.New("hardware: no such fit class")

// String returns "none", "cpu", "partial", "tight" or "full".
func (c Class) String() string {
	if c < None || c > Full {
		return fmt.Sprintf("class(%d)", int(c))
	}
	return classNames[c]
}

// MarshalText implements encoding.TextMarshaler.
func (c Class) MarshalText() ([]byte, error) {
	if c < None || c > Full {
		return nil, fmt.Errorf("%w: %d", ErrClass, int(c))
	}
	return []byte(classNames[c]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Class) UnmarshalText(text []byte) error {
	for k, name := range classNames {
		if string(text) == name {
			*c = Class(k)
			return nil
		}
	}
	return fmt.Errorf("%w: %q", ErrClass, clean(string(text)))
}
