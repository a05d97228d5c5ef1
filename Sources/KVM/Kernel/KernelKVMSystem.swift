internal import CKVM
internal import LinuxSystem
internal import SystemPackage

/// /dev/kvm
public final class KernelKVMSystem: KVMSystem {
    private let descriptor: KVMDescriptor

    /// Opens the device.
    /// - Throws: ENOENT without KVM, EACCES without permission, ENODEV or ENXIO where the module found no support;
    ///   ENOTTY or EINVAL when the path is not a KVM device.
    public init(path: String = "/dev/kvm") throws(KVMError) {
        let file = try translated { () throws(LinuxError) in
            try OwnedDescriptor.open(path: path, .readWrite, nonBlocking: true)
        }
        descriptor = KVMDescriptor(file, kind: "KVM device")
        let version = try apiVersion()
        guard version == TDXD_KVM_API_VERSION else {
            throw KVMError(Ioctls.getAPIVersion.name, .invalidArgument, detail: "\(path) speaks version \(version)")
        }
    }

    public func apiVersion() throws(KVMError) -> Int { Int(try descriptor.call(Ioctls.getAPIVersion)) }

    public func check(_ capability: KVMCapability) throws(KVMError) -> Int {
        Int(
            try descriptor.call(Ioctls.checkExtension, UInt64(capability.rawValue), "capability \(capability.rawValue)")
        )
    }

    /// - Throws: EINVAL for a type that the host does not offer; EMFILE, ENOMEM; EBUSY while the host is going down.
    public func createVirtualMachine(_ type: VMType) throws(KVMError) -> any KVMVirtualMachine {
        try createKernelVirtualMachine(type)
    }

    /// As `createVirtualMachine`, for what only the kernel's own VMs can do.
    package func createKernelVirtualMachine(_ type: VMType) throws(KVMError) -> KernelVirtualMachine {
        let runSize = try descriptor.call(Ioctls.getVCPUMmapSize)
        // KVM_CREATE_VM returns EINTR where a signal comes while the address space is being registered; `call` resumes.
        let number = try descriptor.call(Ioctls.createVM, UInt64(type.rawValue), "type \(type.rawValue)")
        return KernelVirtualMachine(
            OwnedDescriptor(taking: number), type: type, runSize: UInt64(runSize), door: descriptor.door)
    }
}
