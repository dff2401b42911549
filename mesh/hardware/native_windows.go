package hardware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// displayClass is the setup class of display adapters.
var displayClass = windows.GUID{
	Data1: 0x4d36e968, Data2: 0xe325, Data3: 0x11ce,
	Data4: [8]byte{0xbf, 0xc1, 0x08, 0x00, 0x2b, 0xe1, 0x03, 0x18},
}

const classKey = `SYSTEM\CurrentControlSet\Control\Class\`

func (s *System) native() {
	s.Adapters = registryAdapters
	s.Memory = globalMemory
	s.CPUName = registryCPU
}

// registryAdapters reads the class keys of the adapters that are present. The
// class keeps keys of cards that were taken out long ago, so the present ones
// are asked for by name first.
func registryAdapters() ([]Adapter, error) {
	drivers, err := presentDrivers()
	if err != nil {
		return nil, err
	}
	var adapters []Adapter
	for _, driver := range drivers {
		key, err := registry.OpenKey(registry.LOCAL_MACHINE, classKey+driver, registry.QUERY_VALUE)
		if err != nil {
			continue // gone since
		}
		adapters = append(adapters, adapterOf(key))
		key.Close()
	}
	return adapters, nil
}

func adapterOf(key registry.Key) Adapter {
	var a Adapter
	a.Description, _, _ = key.GetStringValue("DriverDesc")
	a.DeviceID, _, _ = key.GetStringValue("MatchingDeviceId")
	a.Version, _, _ = key.GetStringValue("DriverVersion")
	const memory = "HardwareInformation.qwMemorySize"
	if n, _, err := key.GetIntegerValue(memory); err == nil {
		a.Memory = binary.LittleEndian.AppendUint64(nil, n)
	} else if b, _, err := key.GetBinaryValue(memory); err == nil {
		a.Memory = b
	}
	return a
}

// presentDrivers returns the driver keys ("{4d36e968-...}\0001") of display
// adapters in the machine now.
func presentDrivers() ([]string, error) {
	set, err := windows.SetupDiGetClassDevsEx(&displayClass, "", 0, windows.DIGCF_PRESENT, 0, "")
	if err != nil {
		return nil, fmt.Errorf("hardware: list display adapters: %w", err)
	}
	defer set.Close()
	var drivers []string
	for k := 0; k < 64; k++ {
		data, err := set.EnumDeviceInfo(k)
		if errors.Is(err, windows.ERROR_NO_MORE_ITEMS) {
			break
		}
		if err != nil {
			continue
		}
		value, err := set.DeviceRegistryProperty(data, windows.SPDRP_DRIVER)
		if err != nil {
			continue
		}
		if driver, ok := value.(string); ok {
			drivers = append(drivers, driver)
		}
	}
	return drivers, nil
}

func registryCPU() string {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `HARDWARE\DESCRIPTION\System\CentralProcessor\0`, registry.QUERY_VALUE)
	if err != nil {
		return ""
	}
	defer key.Close()
	name, _, _ := key.GetStringValue("ProcessorNameString")
	return strings.TrimSpace(name)
}

// memoryStatusEx is MEMORYSTATUSEX.
type memoryStatusEx struct {
	length               uint32
	memoryLoad           uint32
	totalPhys            uint64
	availPhys            uint64
	totalPageFile        uint64
	availPageFile        uint64
	totalVirtual         uint64
	availVirtual         uint64
	availExtendedVirtual uint64
}

var globalMemoryStatusEx = windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalMemoryStatusEx")

func globalMemory() (total, available uint64, err error) {
	status := memoryStatusEx{length: uint32(unsafe.Sizeof(memoryStatusEx{}))}
	ok, _, callErr := globalMemoryStatusEx.Call(uintptr(unsafe.Pointer(&status)))
	if ok == 0 {
		return 0, 0, fmt.Errorf("hardware: GlobalMemoryStatusEx: %w", callErr)
	}
	return status.totalPhys, status.availPhys, nil
}

// hideWindow keeps a console window from flashing up when we run as a service
// or from a tray.
func hideWindow(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{HideWindow: true}
}
