internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// What Linux shows of TDX and memory on a host, outside of /dev/kvm. Every value is read when asked.
public struct PlatformFacts: Hashable, Sendable {
    /// The CPU flag `tdx_host_platform`.
    public var tdxHostPlatform: Finding<Bool>
    /// kvm_intel's parameter `tdx`, which is N when any precondition failed.
    public var tdxModuleParameter: Finding<Bool>
    /// The CPU bug `tdx_pw_mce`: a partial write to private memory poisons it.
    public var partialWriteErratum: Finding<Bool>
    /// The CPU bug `seamret_invd_vmcs`.
    public var seamReturnErratum: Finding<Bool>
    /// Guest key ids: `tdx` in misc.capacity of the root control group.
    public var keyIDs: Finding<UInt64>
    /// The TDX module's version.
    public var moduleVersion: Finding<String>
    /// Whether cachestat(2) counts a file's resident pages, tried on one page of a memfd.
    public var cachestat: Finding<Bool>

    /// - Parameter root: put before every path, for tests.
    public static func read(root: String = "") -> Self {
        let cpu: Finding<ProcessorInformation> = reading("\(root)/proc/cpuinfo") {
            ProcessorInformation(parsing: $0)
        }
        func has(_ name: String, _ set: (ProcessorInformation) -> Set<String>, _ kind: String) -> Finding<Bool> {
            guard let information = cpu.value else { return Finding(nil, cpu.evidence) }
            let found = set(information).contains(name)
            return Finding(found, "\(found ? "" : "no ")\(name) in the \(kind) of /proc/cpuinfo")
        }
        return Self(
            tdxHostPlatform: has("tdx_host_platform", \.flags, "flags"),
            tdxModuleParameter: reading("\(root)/sys/module/kvm_intel/parameters/tdx") { $0 == "Y" || $0 == "1" },
            partialWriteErratum: has("tdx_pw_mce", \.bugs, "bugs"),
            seamReturnErratum: has("seamret_invd_vmcs", \.bugs, "bugs"),
            keyIDs: keyIDs(root), moduleVersion: reading("\(root)/sys/devices/faux/tdx_host/version") { $0 },
            cachestat: tryCachestat())
    }

    private static func reading<Value>(_ path: String, _ parse: (String) -> Value) -> Finding<Value> {
        do throws(LinuxError) {
            var text = try TextFile.read(path, limit: 4 << 20)
            while text.last == "\n" { text.removeLast() }
            return Finding(parse(text), text.utf8.count <= 80 ? "\(path): \(text)" : path)
        } catch {
            return Finding(nil, "\(error)")
        }
    }

    private static func keyIDs(_ root: String) -> Finding<UInt64> {
        do throws(LinuxError) {
            let resources = try MiscResource.capacities(root: "\(root)/sys/fs/cgroup")
            guard let tdx = resources.first(where: { $0.name == "tdx" }) else {
                let names = resources.map(\.name).joined(separator: ", ")
                return Finding(0, "no tdx in misc.capacity, only: \(names.isEmpty ? "nothing" : names)")
            }
            return Finding(tdx.amount, "misc.capacity: tdx \(tdx.amount)")
        } catch {
            return Finding(nil, "\(error)")
        }
    }

    private static func tryCachestat() -> Finding<Bool> {
        do throws(LinuxError) {
            guard FileMemory.hasCachestat else { return Finding(false, "cachestat: ENOSYS") }
            let file = try MemoryFile(name: "cachestat-probe", size: ByteCount(2 * pageSize))
            try file.allocate(offset: .zero, length: ByteCount(pageSize))
            let resident = try file.residentBytes()
            return Finding(resident == ByteCount(pageSize), "one page allocated, \(resident) seen resident")
        } catch {
            return Finding(error.errno == Errno(rawValue: 38) ? false : nil, "\(error)")
        }
    }
}
