import MemoryUnits
import TDXModule
import TDXStatusCodes

/// One step of a random sequence.
enum FuzzStep: CustomStringConvertible {
    case call(Registers, Int)
    case exit(UInt64)
    case accept(UInt64, vcpu: UInt64)

    var description: String {
        func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
        switch self {
        case .call(let r, let lp):
            let name = SeamcallLeaf(rawValue: UInt16(truncatingIfNeeded: r.rax))?.name ?? hex(r.rax)
            return
                "\(name) lp\(lp) rax \(hex(r.rax)) rcx \(hex(r.rcx)) rdx \(hex(r.rdx)) r8 \(hex(r.r8)) r9 \(hex(r.r9))"
        case .exit(let vcpu): return "exit \(hex(vcpu))"
        case .accept(let target, let vcpu): return "accept \(hex(target)) on \(hex(vcpu))"
        }
    }
}

/// The module and the naive model side by side.
final class Pair {
    static let platform = platform(.v1_5_01)
    static func platform(_ version: ModuleVersion) -> PlatformDescription {
        PlatformDescription(
            memory: .gibibytes(2), packages: 2, logicalProcessorsPerPackage: 2, mktmeKeys: 31, tdxKeys: 5,
            version: version)
    }
    static let parameters: UInt64 = 0x10_0000

    let module: TDXModule
    let memory = ParameterMemory()
    var naive: NaiveModel
    /// RAX of the last SEAMCALL.
    private(set) var lastStatus: UInt64 = 0
    /// Translations that each vCPU may still use, by TDVPR and GPA: filled by accesses, emptied when an entry flushes.
    private var translations: [UInt64: [UInt64: UInt64]] = [:]

    init(_ version: ModuleVersion) throws {
        module = try TDXModule(platform: Self.platform(version), memory: memory, seed: 1)
        let status = module.bringUp()
        if status != .success { throw status }
        naive = NaiveModel(Self.platform(version))
    }

    /// Makes a step on both; what they disagree about, or nil.
    func make(_ step: FuzzStep) -> String? {
        switch step {
        case .call(let registers, let lp):
            var (ours, theirs) = (registers, registers)
            let tdvpr = registers.rcx & 0x000F_FFFF_FFFF_F000
            let epoch = naive.vcpus[tdvpr]?.epoch
            let isEnter = registers.rax & 0xFFFF == 0
            let processor = LogicalProcessorID(UInt32(lp))
            _ = isEnter ? module.enter(&ours, on: processor) : module.seamcall(&ours, on: processor)
            _ = naive.seamcall(&theirs, lp)
            lastStatus = ours.rax
            if ours != theirs { return "module \(describe(ours)), naive \(describe(theirs))" }
            if isEnter, lastStatus == 0, naive.vcpus[tdvpr]!.epoch != epoch { translations[tdvpr] = [:] }
            return staleTranslation()
        case .exit(let vcpu):
            var registers = Registers()
            let ours = module.exit(.externalInterrupt, vcpu: HostPhysicalAddress(vcpu), into: &registers) != nil
            let theirs = naive.exit(vcpu)
            return ours == theirs ? nil : "module \(ours), naive \(theirs)"
        case .accept(let target, let vcpu):
            var registers = Registers(.memPageAccept, rcx: target)
            let outcome = module.tdcall(&registers, vcpu: HostPhysicalAddress(vcpu))
            let ours: UInt64? =
                switch outcome {
                case .completed(let status): status.rawValue
                case .exit: .max
                case .notInside: nil
                }
            let theirs = naive.accept(target, vcpu)
            remember(target & ~0xFFF, vcpu)
            return ours == theirs ? nil : "module \(String(describing: ours)), naive \(String(describing: theirs))"
        }
    }

    /// The guest touches the page, and its processor remembers where it is.
    private func remember(_ gpa: UInt64, _ vcpu: UInt64) {
        if case .memory(let address, _) = module.access(GuestPhysicalAddress(gpa), vcpu: HostPhysicalAddress(vcpu)) {
            translations[vcpu, default: [:]][gpa] = address.rawValue
        }
    }

    /// A vCPU inside that could still reach a page which its trust domain no longer owns.
    private func staleTranslation() -> String? {
        for (tdvpr, pages) in translations {
            guard let vcpu = naive.vcpus[tdvpr], let owner = naive.pages[tdvpr]?.owner else {
                translations[tdvpr] = nil
                continue
            }
            guard vcpu.state == 4 else { continue }
            for (gpa, address) in pages {
                let metadata = module.metadata(of: HostPhysicalAddress(address))
                if metadata?.type != .regular || metadata?.owner.rawValue != owner {
                    return "\(tdvpr) still reaches \(address) at \(gpa): \(String(describing: metadata))"
                }
            }
        }
        return nil
    }

    private func describe(_ r: Registers) -> String {
        func hex(_ value: UInt64) -> String { String(value, radix: 16) }
        return
            "\(TDXStatus(r.rax)) rcx \(hex(r.rcx)) rdx \(hex(r.rdx)) r8 \(hex(r.r8)) r9 \(hex(r.r9)) r10 \(hex(r.r10))"
    }

    /// What must hold between calls, seen from the module's own side; what does not, or nil.
    func brokenInvariant() -> String? {
        var children: [UInt64: UInt64] = [:]
        var pages = Set(naive.pages.keys)
        pages.formUnion(naive.larges.keys)
        pages.formUnion(naive.giants.keys)
        for page in pages {
            guard let metadata = module.metadata(of: HostPhysicalAddress(page)) else { return "no metadata at \(page)" }
            let cover = naive.cover(page)
            if metadata.size != Int(cover?.level ?? 0) { return "size of \(page)" }
            if let cover, cover.base != page { continue }
            let expected = naive.page(page, cover?.level ?? 0) ?? NaiveModel.Page()
            if UInt64(metadata.type.rawValue) != expected.kind.rawValue { return "type of \(page): \(metadata)" }
            guard metadata.type != .free else { continue }
            if metadata.type == .tdr {
                children[page, default: 0] += 0
            } else {
                children[metadata.owner.rawValue, default: 0] += NaiveModel.size(UInt64(metadata.size))
            }
        }
        for (tdr, count) in children {
            guard let td = module.trustDomain(HostPhysicalAddress(tdr)) else { return "owner \(tdr) is no TDR" }
            if td.childCount != count { return "CHLDCNT \(td.childCount), owned \(count)" }
            let key = module.keyState(td.keyID)
            let fits =
                switch td.lifecycle {
                case .keyAssigned, .keysConfigured: key == .assigned
                case .blocked: key == .flushed
                case .teardown: true
                }
            if !fits { return "lifecycle \(td.lifecycle) with key \(String(describing: key))" }
            if let theirs = naive.tds[tdr] {
                if td.epoch != theirs.epoch || td.associatedVCPUs != theirs.associated || td.vcpus != theirs.vcpus {
                    return "counters of \(tdr)"
                }
                if [UInt64(td.insideEven), UInt64(td.insideOdd)] != theirs.inside { return "REFCOUNT of \(tdr)" }
            }
        }
        // No page is mapped by two entries, and every mapped page belongs to who maps it.
        var mapped: [UInt64: UInt64] = [:]
        for (tdr, td) in naive.tds where td.lifecycle == 1 {
            for (place, entry) in td.entries where entry.state.isLeaf {
                if mapped.updateValue(tdr, forKey: entry.hpa) != nil { return "\(entry.hpa) is mapped twice" }
                let ours = module.entry(
                    GuestPhysicalAddress(place.gpa), level: Int(place.level), of: HostPhysicalAddress(tdr))
                // Below a blocked table nothing can be reached.
                if ours?.level != Int(place.level) { continue }
                if ours?.address?.rawValue != entry.hpa { return "entry at \(place)" }
                if module.metadata(of: HostPhysicalAddress(entry.hpa))?.owner.rawValue != tdr {
                    return "\(entry.hpa) is mapped by one and owned by another"
                }
            }
        }
        return nil
    }
}

/// Memory that holds good TD_PARAMS at one address and nothing elsewhere.
struct ParameterMemory: PhysicalMemory {
    func read(_ address: HostPhysicalAddress, key: KeyID, into buffer: UnsafeMutableRawBufferPointer) {
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        guard buffer.count == 1024 else { return }
        buffer.storeBytes(of: 1 << 28, toByteOffset: 0, as: UInt64.self)
        buffer.storeBytes(of: 3, toByteOffset: 8, as: UInt64.self)
        buffer.storeBytes(of: 8, toByteOffset: 16, as: UInt16.self)
        buffer.storeBytes(of: 6 | 3 << 3, toByteOffset: 24, as: UInt64.self)
        buffer.storeBytes(of: 100, toByteOffset: 40, as: UInt16.self)
    }
    func write(_ address: HostPhysicalAddress, key: KeyID, from buffer: UnsafeRawBufferPointer) {}
    func zeroPage(_ page: HostPhysicalAddress, key: KeyID) {}
    func copyPage(
        from source: HostPhysicalAddress, sourceKey: KeyID, to destination: HostPhysicalAddress, key: KeyID
    ) {}
}
