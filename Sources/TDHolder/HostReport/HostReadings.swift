internal import KVM
internal import LinuxSystem
internal import ServiceSupport

/// What was read of a host. No judgement here.
struct HostReadings: Sendable {
    /// What /dev/kvm answered, or why it could not be asked.
    var kvm: Reading<KVMFacts>
    var platform: PlatformFacts
    var processor: Reading<ProcessorInformation>
    var memory: Reading<MemoryInformation>
    var fence: FileSystemFence.Support

    /// Reads the host. It changes nothing: the VMs and the file that are made to ask with are gone when it returns.
    /// - Parameter device: path of the KVM device.
    /// - Returns: the readings, and the device where it could be opened.
    static func read(device: String) -> (HostReadings, (any KVMSystem)?) {
        let system: (any KVMSystem)?
        let kvm: Reading<KVMFacts>
        do throws(KVMError) {
            let opened = try KernelKVMSystem(path: device)
            system = opened
            kvm = .value(HostProbe.probe(opened))
        } catch {
            system = nil
            kvm = .refused("\(error)")
        }
        let readings = HostReadings(
            kvm: kvm, platform: .read(),
            processor: .reading { () throws(LinuxError) in try ProcessorInformation.ofHost() },
            memory: .reading { () throws(LinuxError) in try MemoryInformation.ofHost() },
            fence: .ofKernel)
        return (readings, system)
    }

    /// What a backend is chosen from.
    var offers: BackendOffers {
        switch kvm {
        case .refused(let why):
            BackendOffers(
                obstacle: why, vmTypes: 0, hasGuestMemory: false, guestMemoryFlags: [], hasPrivateAttribute: false)
        case .value(let kvm):
            BackendOffers(
                vmTypes: kvm.vmTypes.value ?? 0, hasGuestMemory: kvm.guestMemory.value ?? false,
                guestMemoryFlags: kvm.facts(for: .default)?.guestMemoryFlags.value ?? [],
                hasPrivateAttribute: kvm.facts(for: .softwareProtected)?.privateMemory.value ?? false)
        }
    }
}

/// A value, or why it could not be read.
enum Reading<Value: Sendable>: Sendable {
    case value(Value)
    case refused(String)

    static func reading(_ body: () throws(LinuxError) -> Value) -> Self {
        do { return .value(try body()) } catch { return .refused("\(error)") }
    }

    var value: Value? {
        if case .value(let value) = self { value } else { nil }
    }
    var refusal: String? {
        if case .refused(let why) = self { why } else { nil }
    }
}
