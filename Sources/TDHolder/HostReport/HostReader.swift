internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// Reads a host. It changes nothing: the VMs and the file that it makes to ask with are gone when it returns.
enum HostReader {
    /// - Returns: the readings, and /dev/kvm where it could be opened.
    static func read(path: String = "/dev/kvm") -> (HostReadings, (any KVMSystem)?) {
        var kvm: Reading<HostReadings.KVM>
        var system: (any KVMSystem)?
        do throws(KVMError) {
            let opened = try KernelKVMSystem(path: path)
            kvm = .value(try readKVM(opened))
            system = opened
        } catch {
            kvm = .refused("\(error)")
        }
        let readings = HostReadings(
            kvm: kvm, processor: reading { () throws(LinuxError) in try ProcessorInformation.ofHost() },
            moduleParameter: reading { () throws(LinuxError) in
                try TextFile.read("/sys/module/kvm_intel/parameters/tdx", limit: 4096)
            },
            capacities: reading { () throws(LinuxError) in try MiscResource.capacities() },
            cachestat: reading { () throws(LinuxError) in try countCache() },
            memory: reading { () throws(LinuxError) in try MemoryInformation.ofHost() })
        return (readings, system)
    }

    private static func reading<Value>(_ body: () throws(LinuxError) -> Value) -> Reading<Value> {
        do { return .value(try body()) } catch { return .refused("\(error)") }
    }

    // MARK: KVM

    private static func readKVM(_ system: any KVMSystem) throws(KVMError) -> HostReadings.KVM {
        let vmTypes = UInt32(truncatingIfNeeded: try system.check(.vmTypes))
        var attributes: [VMType: UInt64] = [:]
        var flags: GuestMemoryFlags = []
        for type in [VMType.default, .softwareProtected, .tdx] where vmTypes & (1 << type.rawValue) != 0 {
            let machine = try system.createVirtualMachine(type)
            defer { machine.close() }
            attributes[type] = UInt64(try machine.check(.memoryAttributes))
            if type == .default { flags = GuestMemoryFlags(rawValue: UInt64(try machine.check(.guestMemfdFlags))) }
        }
        return HostReadings.KVM(
            apiVersion: try system.apiVersion(), vmTypes: vmTypes, guestMemory: try system.check(.guestMemfd),
            guestMemoryFlags: flags, attributes: attributes, preFault: try system.check(.preFaultMemory),
            terminate: vmTypes & (1 << VMType.tdx.rawValue) == 0 ? .noTDX : probeTerminate(system))
    }

    /// Asks a throw-away VM of type 5. It has no key id yet; a kernel that knows the command answers anything but the
    /// three errnos that mean "no such command".
    private static func probeTerminate(_ system: any KVMSystem) -> HostReadings.Terminate {
        do throws(KVMError) {
            let machine = try system.createVirtualMachine(.tdx)
            defer { machine.close() }
            if try machine.tdxCapabilities().supportedCommands & 1 != 0 { return .announced }
            do throws(KVMError) {
                try machine.tdxTerminate()
                return .accepted
            } catch {
                let absent: [Errno] = [.invalidArgument, .inappropriateIOCTLForDevice, .notSupported]
                return absent.contains(error.errno) ? .refused(error.errno.name) : .accepted
            }
        } catch {
            return .unknown("\(error)")
        }
    }

    // MARK: Linux

    /// Makes two of four pages present and has them counted.
    private static func countCache() throws(LinuxError) -> (expected: UInt64, counted: UInt64) {
        let file = try MemoryFile(name: "tdxd-probe", size: ByteCount(4 * pageSize))
        defer { file.close() }
        let present = ByteCount(2 * pageSize)
        try file.allocate(offset: ByteCount(pageSize), length: present)
        return (present.rawValue, try file.residentBytes(offset: .zero, length: .zero).rawValue)
    }
}
