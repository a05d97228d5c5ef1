public import Logging
public import MemoryUnits

/// The settings of tdxd. The defaults here are those that `config/tdxd.conf` shows; `Setting.all` has how each is
/// written, and its range.
public struct TDXDConfiguration: Hashable, Sendable {
    /// Places and behaviour of the service.
    public struct Service: Hashable, Sendable {
        /// Where io.tdxd.Manager listens, unless systemd passes a socket.
        public var socket = "/run/tdxd/tdxd.socket"
        /// The socket's permissions. Who may do what is decided by the peer's identity, not by these.
        public var socketMode: UInt32 = 0o666
        /// Holders' sockets; must survive a restart of tdxd.
        public var runtimeDirectory = "/run/tdxd"
        /// Certificates and the registry.
        public var stateDirectory = "/var/lib/tdxd"
        /// Teardown certificates that are kept; beyond it the oldest go.
        public var certificatesKept = 1000
        /// Certificates that are older go, too; nil for none.
        public var certificateDays: UInt32?
        /// Where firmware that clients name may lie; nil for anywhere that the client may read.
        public var firmwareDirectories: [String]?
        /// What happens to TDs when tdxd is stopped.
        public var onStop = OnStop.keep
        /// Whether VMs that tdxd does not manage count where tdxd is asked whether the host is free of private memory.
        public var otherVMs = OtherVMs.count
        public var logLevel = Logger.Level.info
    }

    /// Who may do what. Root and tdxd's own user may always do everything.
    public struct Access: Hashable, Sendable {
        /// The group whose members may change things; nil for none.
        public var adminGroup: String? = "tdx-admin"
        /// The group whose members may make TDs and change their own; nil for none.
        public var operateGroup: String? = "tdx-operate"
        /// The group whose members may look, for where others may not; nil for none.
        public var observeGroup: String?
        /// Users with the role of the group of the same name, by name or number.
        public var adminUsers: [String] = []
        public var operateUsers: [String] = []
        public var observeUsers: [String] = []
        /// What everybody else may do.
        public var others = Others.read
    }

    /// Which backend runs TDs.
    public struct Backends: Hashable, Sendable {
        public var backend = BackendChoice.auto
        /// Key ids that an emulated backend has for TDs.
        public var emulatedKeyIDs: UInt16 = 32
        /// What an emulated kernel makes of KVM_TDX_TERMINATE_VM.
        public var emulatedTerminate = EmulatedTerminate.announced
        /// Where each TD of an emulated backend records the software module's calls; nil for nowhere.
        public var emulatedTraces: String?
        /// Whether last wills are rehearsed on the real VM under an emulated TD.
        public var emulatedLastWill = YesOrNo.no
        /// Where the holder of an emulated TD stops itself until it is continued.
        public var emulatedPauseAt = EmulatedPause.none
        /// Which page that is taken from an emulated TD the software module refuses to give up, from 1; nil for none.
        public var emulatedFailingRemoval: UInt64?
        /// Whether an emulated TD's first vCPU runs and cannot be driven out.
        public var emulatedStuckVCPU = YesOrNo.no
        /// Whether an emulated kernel has KVM_PRE_FAULT_MEMORY.
        public var emulatedPreFault = YesOrNo.yes
    }

    /// How TDs are ended.
    public struct Teardown: Hashable, Sendable {
        /// Where a client states none.
        public var policy = TeardownPolicy.auto
        /// What a client waits for that states nothing.
        public var wait = TeardownWait.proven
        /// Bytes that one TD gives back a second at most; nil for as fast as it goes.
        public var rate: ByteCount?
        /// Whether a TD is terminated even when its holder is killed, where the kernel can.
        public var lastWill = YesOrNo.yes
    }

    /// How guest memory is held and given back.
    public struct Memory: Hashable, Sendable {
        /// A TD's memory is spread over several guest_memfds, none smaller than this where the TD is larger.
        public var shardMinimum = ByteCount.mebibytes(256)
        /// What one punch releases.
        public var releaseChunk = ByteCount.mebibytes(32)
        /// How many shards of one TD are released at a time.
        public var releaseThreads = 4
        /// What must stay available on the host after a TD's memory is set aside.
        public var reserve = ByteCount.mebibytes(256)
        /// More conversions of one TD than this in one window are a storm.
        public var conversionStorm = 10_000
        public var conversionStormWindow = Duration.seconds(1)
    }

    /// What clients may take.
    public struct Limits: Hashable, Sendable {
        public var trustDomains = 64
        /// Memory of one TD.
        public var trustDomainMemory = ByteCount.gibibytes(1024)
        /// vCPUs of one TD.
        public var trustDomainVCPUs = 64
        /// Connections of all clients together.
        public var connections = 128
        /// Connections of clients of one user.
        public var connectionsPerUser = 64
        /// One message on the wire.
        public var messageSize = ByteCount.mebibytes(1)
    }

    /// How long things may take.
    public struct Deadlines: Hashable, Sendable {
        /// From starting a holder to its answer.
        public var holderStart = Duration.seconds(10)
        /// Loading one TD, without progress.
        public var build = Duration.seconds(120)
        /// Tearing one TD down, without progress.
        public var stop = Duration.seconds(120)
        /// Proofs of an end that do not hold yet are repeated.
        public var prove = Duration.seconds(3)
        /// A holder's answer to any other call.
        public var holderReply = Duration.seconds(10)
        /// The host probe and the self-test.
        public var check = Duration.seconds(60)
        /// A client that has begun a message and does not end it, or does not read its reply.
        public var client = Duration.seconds(30)
        /// A client that has sent nothing at all since it connected.
        public var firstMessage = Duration.seconds(30)
        /// A client between two calls.
        public var idle = Duration.seconds(600)
        /// Draining every TD on an orderly stop.
        public var drain = Duration.seconds(300)
    }

    /// A phase of a TD's end.
    public enum EmulatedPause: String, Hashable, Sendable, CaseIterable {
        case none, quiesce, terminate, release, close
    }

    public enum YesOrNo: String, Hashable, Sendable, CaseIterable {
        case yes, no
    }

    public enum OnStop: String, Hashable, Sendable, CaseIterable {
        /// Holders go on; the next tdxd adopts them.
        case keep
        /// Every TD is torn down first.
        case drain
    }

    public enum OtherVMs: String, Hashable, Sendable, CaseIterable {
        case count
        /// For a private tdxd beside other programs, such as in a test.
        case ignore
    }

    public enum Others: String, Hashable, Sendable, CaseIterable {
        case read
        case none
    }

    public enum BackendChoice: String, Hashable, Sendable, CaseIterable {
        /// The first that the host offers, in this order.
        case auto
        case tdx
        case softwareProtected = "software_protected"
        case guestMemfd = "guest_memfd"
        case memfd
    }

    public enum EmulatedTerminate: String, Hashable, Sendable, CaseIterable {
        /// The kernel has it and announces it.
        case announced
        /// It has it, and only the call shows that.
        case unannounced
        case absent
    }

    public enum TeardownPolicy: String, Hashable, Sendable, CaseIterable {
        /// Terminate first where the kernel can.
        case auto
        /// Refuse where the kernel does not announce that it can.
        case terminateFirst = "terminate-first"
        /// Never terminate.
        case dynamicRemoval = "dynamic-removal"
        /// As `auto`, but memory comes back only when that is asked for, or at a rate.
        case deferred
    }

    public enum TeardownWait: String, Hashable, Sendable, CaseIterable {
        case proven
        case stopped
    }

    public var service = Service()
    public var access = Access()
    public var backends = Backends()
    public var memory = Memory()
    public var teardown = Teardown()
    public var limits = Limits()
    public var deadlines = Deadlines()

    /// The defaults.
    public init() {}
}
