"""Tables of the words of the generated corpus, except verbs; parsed by lexicon.py.

One entry per line, continued after a backslash; the columns are named above each table. Homophones
of another word of the lexicon ("sea" and "see") are left out, so that word error rate is well
defined.
"""

# english | german | dutch | italian | classes
# p person, k family (Italian possessive without article), a animal, t thing to hold, c clothing,
# r text, f food, d drink, v vehicle, b building or furniture, o opens, s song or poem,
# l appliance, g breaks, h holds water, q can be learnt, i image, n grows, y song, w is cooked,
# e is cut, u text or language
NOUNS = """
man men | der mann männer | de man mannen | m uomo uomini | p
woman women | die frau frauen | de vrouw vrouwen | f donna donne | p
boy boys | der junge jungen jungen | de jongen jongens | m ragazzo ragazzi | p
girl girls | das mädchen mädchen | het meisje meisjes | f ragazza ragazze | p
child children | das kind kinder | het kind kinderen | m bambino bambini | p
teacher teachers | der lehrer lehrer | de leraar leraren | m insegnante insegnanti | p
doctor doctors | der arzt ärzte | de arts artsen | m medico medici | p
farmer farmers | der bauer bauern bauern | de boer boeren | m contadino contadini | p
baker bakers | der bäcker bäcker | de bakker bakkers | m panettiere panettieri | p
student students | der student studenten studenten | de student studenten | m studente studenti | p
neighbor neighbors | der nachbar nachbarn nachbarn | de buurman buren | m vicino vicini | p
friend friends | der freund freunde | de vriend vrienden | m amico amici | p
brother brothers | der bruder brüder | de broer broers | m fratello fratelli | p k
sister sisters | die schwester schwestern | de zus zussen | f sorella sorelle | p k
mother mothers | die mutter mütter | de moeder moeders | f madre madri | p k
father fathers | der vater väter | de vader vaders | m padre padri | p k
uncle uncles | der onkel onkel | de oom ooms | m zio zii | p k
aunt aunts | die tante tanten | de tante tantes | f zia zie | p k
daughter daughters | die tochter töchter | de dochter dochters | f figlia figlie | p k
son sons | der sohn söhne | de zoon zonen | m figlio figli | p k
grandmother grandmothers | die großmutter großmütter | de grootmoeder grootmoeders \
 | f nonna nonne | p k
grandfather grandfathers | der großvater großväter | de grootvader grootvaders \
 | m nonno nonni | p k
cook cooks | der koch köche | de kok koks | m cuoco cuochi | p
painter painters | der maler maler | de schilder schilders | m pittore pittori | p
singer singers | der sänger sänger | de zanger zangers | m cantante cantanti | p
driver drivers | der fahrer fahrer | de chauffeur chauffeurs | m autista autisti | p
soldier soldiers | der soldat soldaten soldaten | de soldaat soldaten | m soldato soldati | p
king kings | der könig könige | de koning koningen | m re re | p
queen queens | die königin königinnen | de koningin koninginnen | f regina regine | p
nurse nurses | die krankenschwester krankenschwestern | de verpleegster verpleegsters \
 | f infermiera infermiere | p
judge judges | der richter richter | de rechter rechters | m giudice giudici | p
lawyer lawyers | der anwalt anwälte | de advocaat advocaten | m avvocato avvocati | p
gardener gardeners | der gärtner gärtner | de tuinier tuiniers | m giardiniere giardinieri | p
butcher butchers | der metzger metzger | de slager slagers | m macellaio macellai | p
waiter waiters | der kellner kellner | de ober obers | m cameriere camerieri | p
guest guests | der gast gäste | de gast gasten | m ospite ospiti | p
colleague colleagues | der kollege kollegen kollegen | de collega collega's \
 | m collega colleghi | p
customer customers | der kunde kunden kunden | de klant klanten | m cliente clienti | p
writer writers | der schriftsteller schriftsteller | de schrijver schrijvers \
 | m scrittore scrittori | p
dog dogs | der hund hunde | de hond honden | m cane cani | a
cat cats | die katze katzen | de kat katten | m gatto gatti | a
horse horses | das pferd pferde | het paard paarden | m cavallo cavalli | a
cow cows | die kuh kühe | de koe koeien | f mucca mucche | a
bird birds | der vogel vögel | de vogel vogels | m uccello uccelli | a
pig pigs | das schwein schweine | het varken varkens | m maiale maiali | a
rabbit rabbits | das kaninchen kaninchen | het konijn konijnen | m coniglio conigli | a
duck ducks | die ente enten | de eend eenden | f anatra anatre | a
mouse mice | die maus mäuse | de muis muizen | m topo topi | a
book books | das buch bücher | het boek boeken | m libro libri | t r q
letter letters | der brief briefe | de brief brieven | f lettera lettere | t r
newspaper newspapers | die zeitung zeitungen | de krant kranten | m giornale giornali | t r
story stories | die geschichte geschichten | het verhaal verhalen | f storia storie | r u
poem poems | das gedicht gedichte | het gedicht gedichten | f poesia poesie | r s q u
song songs | das lied lieder | het lied liederen | f canzone canzoni | s q y u
word words | das wort wörter | het woord woorden | f parola parole | q u
language languages | die sprache sprachen | de taal talen | f lingua lingue | q u
car cars | das auto autos | de auto auto's | f macchina macchine | v
bicycle bicycles | das fahrrad fahrräder | de fiets fietsen | f bicicletta biciclette | v
boat boats | das boot boote | de boot boten | f barca barche | v
truck trucks | der lastwagen lastwagen | de vrachtwagen vrachtwagens | m camion camion | v
house houses | das haus häuser | het huis huizen | f casa case | b
chair chairs | der stuhl stühle | de stoel stoelen | f sedia sedie | b t
table tables | der tisch tische | de tafel tafels | m tavolo tavoli | b
bed beds | das bett betten | het bed bedden | m letto letti | b
bridge bridges | die brücke brücken | de brug bruggen | m ponte ponti | b
wall walls | die mauer mauern | de muur muren | m muro muri | b
door doors | die tür türen | de deur deuren | f porta porte | o
window windows | das fenster fenster | het raam ramen | f finestra finestre | o g
box boxes | die kiste kisten | de kist kisten | f scatola scatole | t o h
suitcase suitcases | der koffer koffer | de koffer koffers | f valigia valigie | t o
bag bags | die tasche taschen | de tas tassen | f borsa borse | t o
lamp lamps | die lampe lampen | de lamp lampen | f lampada lampade | t l g
radio radios | das radio radios | de radio radio's | f radio radio | t l
computer computers | der computer computer | de computer computers | m computer computer | t l
camera cameras | die kamera kameras | de camera camera's | f macchina_fotografica \
 macchine_fotografiche | t
key keys | der schlüssel schlüssel | de sleutel sleutels | f chiave chiavi | t
picture pictures | das bild bilder | het schilderij schilderijen | m quadro quadri | t i
photo photos | das foto fotos | de foto foto's | f foto foto | t i
map maps | die landkarte landkarten | de landkaart landkaarten | f mappa mappe | t r i
ticket tickets | die fahrkarte fahrkarten | het kaartje kaartjes | m biglietto biglietti | t
hat hats | der hut hüte | de hoed hoeden | m cappello cappelli | t c
coat coats | der mantel mäntel | de jas jassen | m cappotto cappotti | t c
shirt shirts | das hemd hemden | het hemd hemden | f camicia camicie | t c
skirt skirts | der rock röcke | de rok rokken | f gonna gonne | t c
shoe shoes | der schuh schuhe | de schoen schoenen | f scarpa scarpe | t c
cup cups | die tasse tassen | de kop koppen | f tazza tazze | t g h
glass glasses | das glas gläser | het glas glazen | m bicchiere bicchieri | t g h
plate plates | der teller teller | het bord borden | m piatto piatti | t g
knife knives | das messer messer | het mes messen | m coltello coltelli | t
spoon spoons | der löffel löffel | de lepel lepels | m cucchiaio cucchiai | t
bottle bottles | die flasche flaschen | de fles flessen | f bottiglia bottiglie | t g h o
basket baskets | der korb körbe | de mand manden | m cestino cestini | t h
umbrella umbrellas | der regenschirm regenschirme | de paraplu paraplu's \
 | m ombrello ombrelli | t o
gift gifts | das geschenk geschenke | het cadeau cadeaus | m regalo regali | t
ring rings | der ring ringe | de ring ringen | m anello anelli | t
mirror mirrors | der spiegel spiegel | de spiegel spiegels | m specchio specchi | t g
ball balls | der ball bälle | de bal ballen | f palla palle | t
pencil pencils | der bleistift bleistifte | het potlood potloden | f matita matite | t
clock clocks | die uhr uhren | de klok klokken | m orologio orologi | t
flower flowers | die blume blumen | de bloem bloemen | m fiore fiori | t n i
tree trees | der baum bäume | de boom bomen | m albero alberi | n
bread - | das brot - | het brood - | m pane - | f e
cheese - | der käse - | de kaas - | m formaggio - | f
soup soups | die suppe suppen | de soep soepen | f minestra minestre | f w
cake cakes | der kuchen kuchen | de taart taarten | f torta torte | f e
apple apples | der apfel äpfel | de appel appels | f mela mele | f
carrot carrots | die karotte karotten | de wortel wortels | f carota carote | f w
potato potatoes | die kartoffel kartoffeln | de aardappel aardappelen | f patata patate | f w
tomato tomatoes | die tomate tomaten | de tomaat tomaten | m pomodoro pomodori | f
orange oranges | die orange orangen | de sinaasappel sinaasappels | f arancia arance | f
banana bananas | die banane bananen | de banaan bananen | f banana banane | f
meat - | das fleisch - | het vlees - | f carne - | f w
fish - | der fisch - | de vis - | m pesce - | f w
rice - | der reis - | de rijst - | m riso - | f w
milk - | die milch - | de melk - | m latte - | d
water - | das wasser - | het water - | f acqua - | d
wine - | der wein - | de wijn - | m vino - | d
coffee - | der kaffee - | de koffie - | m caffè - | d
tea - | der tee - | de thee - | m tè - | d
juice - | der saft - | het sap - | m succo - | d
"""

# english | german, stem if different | dutch, inflected | italian: m or m,f,mp,fp | classes
# | comparatives in English, German, Dutch
# p person, a animal, t thing, b big thing, f food, d drink, u text or language, c colour
ADJECTIVES = """
old | alt | oud oude | vecchio,vecchia,vecchi,vecchie | p a t b u | older älter ouder
young | jung | jong jonge | giovane | p a | younger jünger jonger
new | neu | nieuw nieuwe | nuovo | t b u | newer neuer nieuwer
big | groß | groot grote | grande | a b t | bigger größer groter
small | klein | klein kleine | piccolo | a b t | smaller kleiner kleiner
happy | glücklich | gelukkig gelukkige | felice | p | happier glücklicher gelukkiger
sad | traurig | verdrietig verdrietige | triste | p | sadder trauriger verdrietiger
friendly | freundlich | vriendelijk vriendelijke | gentile | p | friendlier freundlicher \
 vriendelijker
strong | stark | sterk sterke | forte | p a | stronger stärker sterker
rich | reich | rijk rijke | ricco,ricca,ricchi,ricche | p | richer reicher rijker
poor | arm | arm arme | povero | p | poorer ärmer armer
hungry | hungrig | hongerig hongerige | affamato | p a
quiet | ruhig | rustig rustige | tranquillo | p a | quieter ruhiger rustiger
famous | berühmt | beroemd beroemde | famoso | p u
clever | klug | slim slimme | intelligente | p a | cleverer klüger slimmer
lazy | faul | lui luie | pigro | p a | lazier fauler luier
brave | mutig | moedig moedige | coraggioso | p a | braver mutiger moediger
polite | höflich | beleefd beleefde | educato | p
red | rot | rood rode | rosso | t b c
blue | blau | blauw blauwe | blu,blu,blu,blu | t b c
green | grün | groen groene | verde | t b c
yellow | gelb | geel gele | giallo | t b c
white | weiß | wit witte | bianco,bianca,bianchi,bianche | t a b c
black | schwarz | zwart zwarte | nero | t a b c
brown | braun | bruin bruine | marrone,marrone,marroni,marroni | t a b c
heavy | schwer | zwaar zware | pesante | t b | heavier schwerer zwaarder
expensive | teuer teur | duur dure | costoso | t b f d
cheap | billig | goedkoop goedkope | economico,economica,economici,economiche | t b | \
 cheaper billiger goedkoper
beautiful | schön | mooi mooie | bello | t b u
clean | sauber | schoon schone | pulito | t b
dirty | schmutzig | vies vieze | sporco,sporca,sporchi,sporche | t a b | dirtier \
 schmutziger viezer
wet | nass | nat natte | bagnato | t a
strange | seltsam | vreemd vreemde | strano | p a t b u | stranger seltsamer vreemder
modern | modern | modern moderne | moderno | b t u
long | lang | lang lange | lungo,lunga,lunghi,lunghe | u | longer länger langer
short | kurz | kort korte | breve | u | shorter kürzer korter
sad | traurig | treurig treurige | triste | u | sadder trauriger treuriger
funny | lustig | grappig grappige | divertente | u | funnier lustiger grappiger
difficult | schwierig | moeilijk moeilijke | difficile | u
fresh | frisch | vers verse | fresco,fresca,freschi,fresche | f
sweet | süß | zoet zoete | dolce | f d | sweeter süßer zoeter
warm | warm | warm warme | caldo | f d | warmer wärmer warmer
cold | kalt | koud koude | freddo | f d | colder kälter kouder
good | gut | goed goede | buono | f d | better besser beter
"""

# english at, to | german at, to | dutch at, to | italian at, to
PLACES = """
in the park, to the park | im park, in den park | in het park, naar het park | nel parco, al parco
in the kitchen, to the kitchen | in der küche, in die küche | in de keuken, naar de keuken \
 | in cucina, in cucina
in the garden, to the garden | im garten, in den garten | in de tuin, naar de tuin \
 | in giardino, in giardino
at school, to school | in der schule, in die schule | op school, naar school | a scuola, a scuola
at the station, to the station | am bahnhof, zum bahnhof | op het station, naar het station \
 | alla stazione, alla stazione
at the market, to the market | auf dem markt, auf den markt | op de markt, naar de markt \
 | al mercato, al mercato
on the beach, to the beach | am strand, an den strand | op het strand, naar het strand \
 | sulla spiaggia, alla spiaggia
in the church, to the church | in der kirche, in die kirche | in de kerk, naar de kerk \
 | in chiesa, in chiesa
in the library, to the library | in der bibliothek, in die bibliothek \
 | in de bibliotheek, naar de bibliotheek | in biblioteca, in biblioteca
in the city, to the city | in der stadt, in die stadt \
 | in de stad, naar de stad | in città, in città
in the village, to the village | im dorf, ins dorf | in het dorp, naar het dorp \
 | nel villaggio, al villaggio
in the forest, to the forest | im wald, in den wald | in het bos, naar het bos \
 | nel bosco, nel bosco
in the museum, to the museum | im museum, ins museum | in het museum, naar het museum \
 | al museo, al museo
at the theater, to the theater | im theater, ins theater | in het theater, naar het theater \
 | a teatro, a teatro
at the cinema, to the cinema | im kino, ins kino | in de bioscoop, naar de bioscoop \
 | al cinema, al cinema
in the restaurant, to the restaurant | im restaurant, ins restaurant \
 | in het restaurant, naar het restaurant | al ristorante, al ristorante
in the hotel, to the hotel | im hotel, ins hotel | in het hotel, naar het hotel \
 | in albergo, in albergo
in the hospital, to the hospital | im krankenhaus, ins krankenhaus \
 | in het ziekenhuis, naar het ziekenhuis | in ospedale, in ospedale
in the office, to the office | im büro, ins büro | op kantoor, naar kantoor \
 | in ufficio, in ufficio
at the airport, to the airport | am flughafen, zum flughafen \
 | op de luchthaven, naar de luchthaven | all'aeroporto, all'aeroporto
at the lake, to the lake | am see, zum see | aan het meer, naar het meer | al lago, al lago
at the river, to the river | am fluss, zum fluss | aan de rivier, naar de rivier \
 | al fiume, al fiume
in the mountains, to the mountains | in den bergen, in die berge | in de bergen, naar de bergen \
 | in montagna, in montagna
on the street, to the street | auf der straße, auf die straße | op straat, naar de straat \
 | per strada, in strada
at home, home | zu hause, nach hause | thuis, naar huis | a casa, a casa
in the bathroom, to the bathroom | im badezimmer, ins badezimmer \
 | in de badkamer, naar de badkamer | in bagno, in bagno
in the cellar, to the cellar | im keller, in den keller | in de kelder, naar de kelder \
 | in cantina, in cantina
at the farm, to the farm | auf dem bauernhof, auf den bauernhof \
 | op de boerderij, naar de boerderij | alla fattoria, alla fattoria
"""

# english | german | dutch | italian | moods | position in English when not fronted
ADVERBS = """
today | heute | vandaag | oggi | present past modal | end
now | jetzt | nu | adesso | present modal | end
yesterday | gestern | gisteren | ieri | past | end
tomorrow | morgen | morgen | domani | modal | end
every month | jeden monat | elke maand | ogni mese | present modal | end
every week | jede woche | elke week | ogni settimana | present modal | end
last week | letzte woche | vorige week | la settimana scorsa | past | end
last year | letztes jahr | vorig jaar | l'anno scorso | past | end
this morning | heute morgen | vanmorgen | stamattina | past modal | end
this evening | heute abend | vanavond | stasera | modal | end
in the morning | morgens | 's ochtends | la mattina | present | end
in the evening | abends | 's avonds | la sera | present | end
at night | nachts | 's nachts | di notte | present | end
in summer | im sommer | in de zomer | in estate | present | end
in winter | im winter | in de winter | in inverno | present | end
on monday | am montag | op maandag | lunedì | past modal | end
on friday | am freitag | op vrijdag | venerdì | past modal | end
on sunday | am sonntag | op zondag | domenica | past modal | end
often | oft | vaak | spesso | present | mid
sometimes | manchmal | soms | a volte | present | free
always | immer | altijd | sempre | present | mid
rarely | selten | zelden | raramente | present | mid
"""
