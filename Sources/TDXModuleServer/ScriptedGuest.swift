internal import Glibc
internal import LinuxSystem
internal import MemoryUnits
internal import TDXModule
internal import TDXStatusCodes

/// One vCPU's guest on its way through a script. The vCPU is inside the module while `run` works; one thread at a time.
struct ScriptedGuest {
    let script: GuestScript
    private var next = 0
    /// Bytes of a step over a range that are done.
    private var done: UInt64 = 0
    /// When the step that computes is over.
    private var end: MonotonicInstant?
    /// The step made a VMCALL whose answer comes with the next entry.
    private var awaitsAnswer = false
    private var sharedBit: UInt64 = 0

    init(_ script: GuestScript) { self.script = script }

    /// What a guest needs of the world.
    struct Surroundings {
        var module: TDXModule
        var memory: MachineMemory
        var tdvpr: HostPhysicalAddress
        /// An interrupt waits for the processor that the guest runs on.
        var interruptIsPending: () -> Bool
        /// For people: what the guest saw.
        var say: (String) -> Void
    }

    /// Runs from VP.ENTER to the next exit.
    mutating func run(_ world: Surroundings) -> TDExit {
        let answer = world.module.takeAnswer(vcpu: world.tdvpr)
        if awaitsAnswer {
            awaitsAnswer = false
            take(answer, world)
        }
        if sharedBit == 0 {
            var info = Registers(.vpInfo)
            _ = world.module.tdcall(&info, vcpu: world.tdvpr)
            // GPAW, bits 5:0: 48 or 52. The bit below is the shared one.
            sharedBit = 1 << ((info.rcx & 0x3F) - 1)
        }
        while true {
            if world.interruptIsPending() { return .externalInterrupt }
            if let exit = step(world) { return exit }
        }
    }

    /// One piece of the script; an exit when the vCPU must leave.
    private mutating func step(_ world: Surroundings) -> TDExit? {
        guard script.steps.indices.contains(next) else { return vmcall(12, world) }
        switch script.steps[next] {
        case .accept(let range):
            guard done < range.size.rawValue else { return proceed() }
            var registers = Registers(.memPageAccept, rcx: range.start.rawValue + done)
            switch world.module.tdcall(&registers, vcpu: world.tdvpr) {
            case .exit(let exit): return exit
            case .completed(let status):
                // Accepted before is well: the script may come here twice.
                if !status.isSuccess, status.rawValue >> 32 != TDXStatus.pageAlreadyAccepted.rawValue >> 32 {
                    world.say("ACCEPT 0x\(hex(range.start.rawValue + done)): \(status)")
                    return fail()
                }
                done += pageSize
            case .notInside: return .externalInterrupt
            }
        case .read(let address):
            return access(address, write: false, world) { word in
                world.say("0x\(hex(address.rawValue)) holds 0x\(hex(word.pointee))")
            }
        case .write(let address, let value):
            return access(address, write: true, world) { $0.pointee = value }
        case .map(let range, let toShared):
            let start = range.start.rawValue + done
            return vmcall(
                0x10001, r12: start | (toShared ? sharedBit : 0), r13: range.size.rawValue - done, world)
        case .compute(let milliseconds):
            let now = MonotonicInstant.now
            let over = end ?? now.adding(milliseconds: Double(milliseconds))
            end = over
            guard now < over else { return proceed() }
            // Short enough that an interrupt is soon seen.
            usleep(50)
        case .halt: return vmcall(12, world)
        case .output(let port, let byte):
            return vmcall(30, r12: 1, r13: 1, r14: UInt64(port), r15: UInt64(byte), world)
        case .quote(let range):
            return vmcall(0x10002, r12: range.start.rawValue | sharedBit, r13: range.size.rawValue, world)
        case .fatal(let code): return vmcall(0x10003, r12: code, world)
        case .tripleFault: return .nonRecoverableTD(reason: 2)
        case .again:
            next = 0
            return restart()
        }
        return nil
    }

    private mutating func proceed() -> TDExit? {
        next += 1
        return restart()
    }

    private mutating func restart() -> TDExit? {
        done = 0
        end = nil
        return nil
    }

    /// The guest gives up, as one does that meets what it did not expect.
    private mutating func fail() -> TDExit {
        next = script.steps.count
        return .nonRecoverableTD(reason: 2)
    }

    private mutating func vmcall(
        _ function: UInt64, r12: UInt64 = 0, r13: UInt64 = 0, r14: UInt64 = 0, r15: UInt64 = 0, _ world: Surroundings
    ) -> TDExit {
        var registers = Registers(.vpVmcall, rcx: 0xFC00)
        registers.r11 = function
        registers.r12 = r12
        registers.r13 = r13
        registers.r14 = r14
        registers.r15 = r15
        guard case .exit(let exit) = world.module.tdcall(&registers, vcpu: world.tdvpr) else {
            world.say("VMCALL 0x\(hex(function)) was refused: \(TDXStatus(registers.rax))")
            return fail()
        }
        awaitsAnswer = true
        return exit
    }

    /// The host's answer to the VMCALL of the step.
    private mutating func take(_ answer: Registers?, _ world: Surroundings) {
        guard let answer, script.steps.indices.contains(next) else { return }
        switch script.steps[next] {
        case .map(let range, let toShared):
            let place = answer.r11 & ~sharedBit
            // 1: go on at R11.
            if answer.r10 == 1, place >= range.start.rawValue, place < range.end.rawValue {
                done = place - range.start.rawValue
                return
            }
            world.say(
                "MapGPA 0x\(hex(range.start.rawValue)) to \(toShared ? "shared" : "private"): R10 0x\(hex(answer.r10))")
            _ = proceed()
        case .quote, .output, .fatal:
            world.say("VMCALL: R10 0x\(hex(answer.r10))")
            _ = proceed()
        default: _ = proceed()
        }
    }

    private mutating func access(
        _ address: GuestPhysicalAddress, write: Bool, _ world: Surroundings,
        _ body: (UnsafeMutablePointer<UInt64>) -> Void
    ) -> TDExit? {
        switch world.module.access(address, write: write, vcpu: world.tdvpr) {
        case .memory(let host, _):
            guard let place = world.memory.pointer(host, 8) else { return .machineCheck }
            body(place.assumingMemoryBound(to: UInt64.self))
            if write { world.memory.ledger.changed(host, world.memory) }
            return proceed()
        case .exit(let exit): return exit
        case .virtualizationException, .shared:
            world.say("#VE at 0x\(hex(address.rawValue))")
            return fail()
        case .notInside: return .externalInterrupt
        }
    }

}

func hex(_ value: UInt64) -> String { String(value, radix: 16) }
