// What the acting user sees, and the one place where it changes.

export const EPHEMERAL = 1 << 6;
export const LOADING = 1 << 7;

const SEND_MESSAGES = 1n << 11n;
const DISCORD_EPOCH_MS = 1420070400000n;
const PENDING_MS = 15000;
const TYPING_MS = 10000;
const ANSWERED_KEPT = 100;

export class Store {
  users = new Map();
  channels = [];
  guild = null;
  commands = [];
  messages = new Map();
  me = null;
  channelId = null;
  connected = false;
  botOnline = false;
  unread = new Set();
  /** Spoilers the user opened, by key. */
  revealed = new Set();
  /** Interactions the bot has not answered yet: id -> {messageId, customId} or {name, channelId}. */
  pending = new Map();
  /** Sentences under messages whose button failed. */
  failures = new Map();
  /** channel id -> user id -> time (ms) until which the user counts as typing. */
  typing = new Map();

  #listeners = new Set();
  #announced = false;
  #answered = new Set();

  /** Calls `listener` once after any number of changes made in one go. */
  subscribe(listener) {
    this.#listeners.add(listener);
  }

  changed() {
    if (this.#announced) return;
    this.#announced = true;
    queueMicrotask(() => {
      this.#announced = false;
      this.#listeners.forEach((listener) => listener());
    });
  }

  load(state, userId) {
    this.users = new Map(state.users.map((user) => [user.id, user]));
    this.guild = state.guild;
    this.botOnline = state.bot_online;
    this.messages = new Map(state.channels.map(({ id }) => [id, [...(state.messages[id] ?? [])].sort(byId)]));
    this.me = this.users.get(userId);
    this.connected = true;
    this.offer(state);
  }

  /** The bot registered commands, or a channel changed. */
  offer({ commands, channels }) {
    this.commands = commands;
    this.channels = channels;
    if (!this.channel) this.channelId = channels[0]?.id ?? null;
    this.changed();
  }

  get channel() {
    return this.channels.find(({ id }) => id === this.channelId);
  }

  get visibleMessages() {
    return this.messages.get(this.channelId) ?? [];
  }

  get typingUsers() {
    const now = Date.now();
    const here = [...(this.typing.get(this.channelId) ?? [])];
    return here
      .filter(([id, until]) => until > now && id !== this.me?.id)
      .map(([id]) => this.users.get(id))
      .filter(Boolean);
  }

  /** The commands that this user may run in the open channel. */
  get usableCommands() {
    const names = new Set(this.channel?.commands);
    return this.commands.filter(({ name }) => names.has(name));
  }

  /** Names of the commands in the menu of a message of the open channel. */
  get messageCommands() {
    return (this.botOnline && this.channel?.message_commands) || [];
  }

  get maySend() {
    return Boolean(this.channel && BigInt(this.channel.permissions) & SEND_MESSAGES);
  }

  message(id) {
    return [...this.messages.values()].flat().find((message) => message.id === id);
  }

  nameOf(user) {
    const known = this.users.get(user?.id);
    return known?.display_name || user?.global_name || known?.username || user?.username || "Somebody";
  }

  /** Resolves mentions of markdown and default values of selects. */
  names = {
    user: (id) => (this.users.has(id) ? this.nameOf({ id }) : null),
    role: (id) => this.roles.find((role) => role.id === id)?.name ?? null,
    channel: (id) => this.channels.find((channel) => channel.id === id)?.name ?? null,
  };

  /** Every role that somebody has. */
  get roles() {
    const worn = [...this.users.values()].flatMap(({ roles }) => roles);
    return [...new Map(worn.map((role) => [role.id, role])).values()];
  }

  open(channelId) {
    this.channelId = channelId;
    this.unread.delete(channelId);
    this.changed();
  }

  /** Remembers that the bot owes an answer; forgotten when it comes, or after a while. */
  expect(interactionId, what) {
    // The answer can be quicker than the server's receipt for the question.
    if (this.#answered.delete(interactionId)) return;
    this.pending.set(interactionId, what);
    setTimeout(() => this.pending.delete(interactionId) && this.changed(), PENDING_MS);
    this.changed();
  }

  apply({ op, d }) {
    this.#events[op]?.(d);
    this.changed();
  }

  #events = {
    message_create: (message) => {
      this.typing.get(message.channel_id)?.delete(message.author?.id);
      this.#put(message);
      if (message.channel_id !== this.channelId) this.unread.add(message.channel_id);
    },
    message_update: (message) => this.#put(message),
    message_delete: ({ id }) => this.#remove(id),
    typing: ({ channel_id, user_id }) => {
      const channel = this.typing.get(channel_id) ?? new Map();
      this.typing.set(channel_id, channel.set(user_id, Date.now() + TYPING_MS));
      setTimeout(() => this.changed(), TYPING_MS + 50);
    },
    presence: ({ bot_online }) => {
      this.botOnline = bot_online;
    },
    interaction_answered: ({ interaction_id }) => {
      if (this.pending.delete(interaction_id)) return;
      this.#answered.add(interaction_id);
      if (this.#answered.size > ANSWERED_KEPT) this.#answered.delete(this.#answered.values().next().value);
    },
    interaction_failed: ({ interaction_id, message }) => this.fail(interaction_id, message),
  };

  /** Shows that an interaction came to nothing: under the message pressed, or as a note for a command. */
  fail(interactionId, sentence) {
    const what = this.pending.get(interactionId);
    this.pending.delete(interactionId);
    if (what?.messageId) this.failures.set(what.messageId, sentence);
    else if (what) this.#put(this.#note(what, sentence));
    this.changed();
  }

  #note({ name, channelId }, sentence) {
    return {
      id: String((BigInt(Date.now()) - DISCORD_EPOCH_MS) << 22n),
      channel_id: channelId,
      author: [...this.users.values()].find(({ bot }) => bot) ?? { username: "Application" },
      interaction_metadata: { user: this.me, name },
      timestamp: new Date().toISOString(),
      flags: EPHEMERAL,
      content: "",
      failure: sentence,
    };
  }

  #put(message) {
    const list = this.messages.get(message.channel_id) ?? [];
    const known = list.find(({ id }) => id === message.id);
    const next = known
      ? list.map((other) => (other === known ? { ...known, ...message } : other))
      : [...list, message].sort(byId);
    this.messages.set(message.channel_id, next);
    this.failures.delete(message.id);
  }

  #remove(messageId) {
    for (const [channel, list] of this.messages) {
      if (list.some(({ id }) => id === messageId))
        this.messages.set(
          channel,
          list.filter(({ id }) => id !== messageId),
        );
    }
  }
}

const byId = (a, b) => (BigInt(a.id) < BigInt(b.id) ? -1 : 1);
